"""Names that users of TRL bring along."""
