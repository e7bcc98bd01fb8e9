"""Kills, errors of the system and concurrent runs, over every command that writes.

What it found: docs/explanations/reliability.md.
"""
