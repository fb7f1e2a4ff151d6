"""The engine: schedules requests, runs the model, samples, and delivers tokens."""
