"""`pathprep view`: a slide with its tissue, tiles and scores in a browser on this machine."""
