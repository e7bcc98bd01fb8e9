"""Kills, errors of the system and concurrent runs, over every command that writes; see docs/explanations/reliability.md."""
