"""What the trainings on pictures and on sounds share."""
