"""Chat templates, tokens, loss masks and truncation, with every loss of data counted."""
