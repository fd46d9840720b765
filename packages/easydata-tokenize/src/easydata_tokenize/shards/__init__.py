"""Units of work: how a source is divided into them, and how one is written as shards, group of rows by group."""
