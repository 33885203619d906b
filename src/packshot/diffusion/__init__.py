"""Implements Trainer, Generator and BaseModels with torch, diffusers and peft."""
