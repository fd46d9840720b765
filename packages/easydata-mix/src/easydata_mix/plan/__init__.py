"""Deciding: which source every row of a mixture comes from, by arithmetic and without reading any.

Reading asks `planner.py` for blocks and `walk.py` where a number of rows leads; nothing here knows of data.
"""
