"""Information estimators: arrays in, nats out. No model, no store, no disk."""
