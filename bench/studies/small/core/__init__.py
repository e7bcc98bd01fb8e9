"""What the parts of the study share: its tiles, trainings, encoders and scores."""
