"""Capacity: from what a finished run measured to nodes, hours, money and traffic of larger ones."""
