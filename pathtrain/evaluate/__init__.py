"""Evaluations of a frozen encoder, each with the numbers that an untrained one or chance would give."""
