"""The model of a training: loaded, adapted, held against the data, saved."""
