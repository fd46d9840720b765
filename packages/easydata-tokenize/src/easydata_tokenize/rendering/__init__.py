"""Rendering conversations by chat templates, and telling whose words stand where in what comes out."""
