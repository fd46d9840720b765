"""One folder per algorithm, always `config.py`, `loss.py` and `trainer.py`; see README.md beside this file."""
