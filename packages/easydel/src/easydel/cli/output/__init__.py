"""What commands print: errors on one screen, results for people and for scripts, nothing that does harm."""
