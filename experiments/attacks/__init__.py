"""Clients that mean harm, and what can be learned from updates: numbers behind what is promised."""
