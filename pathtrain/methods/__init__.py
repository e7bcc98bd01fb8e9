"""Training methods; a recipe's ``method`` names one."""
