"""The model that a policy is compared with."""
