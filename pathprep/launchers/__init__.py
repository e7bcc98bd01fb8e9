"""Ways to run many slides: each takes the same tasks and calls the same function on them."""
