"""Mixture of experts: routing tokens to a few of many feed-forward networks, and computing only those."""
