"""Smooth random fields: over points in space, and periodic ones over an image. Knows no colours and no products."""

import numpy as np

WAVES = 20


def field(points: np.ndarray, frequency: float, rng: np.random.Generator, octaves: int = 1) -> np.ndarray:
    """Return about unit-variance noise (…,) at points (…, 3): a sum of cosine waves in random directions."""
    total, norm = np.zeros(points.shape[:-1], np.float32), 0.0
    flat = points.astype(np.float32)
    for octave in range(octaves):
        weight = 0.55**octave
        waves = rng.normal(size=(3, WAVES)).astype(np.float32) * np.float32(frequency * 2**octave)
        phases = rng.uniform(0, 2 * np.pi, WAVES).astype(np.float32)
        total += np.float32(weight * np.sqrt(2 / WAVES)) * np.cos(flat @ waves + phases).sum(-1)
        norm += weight**2
    return total / np.float32(np.sqrt(norm))


def tile(size: int, scale_x: float, scale_y: float, rng: np.random.Generator, power: float = 2.0) -> np.ndarray:
    """Return periodic noise (size, size), unit variance; scales are the largest feature sizes as parts of the tile."""
    fx, fy = np.fft.rfftfreq(size) * size * scale_x, np.fft.fftfreq(size) * size * scale_y
    strength = (1 + fx[None, :] ** 2 + fy[:, None] ** 2) ** (-power / 2)
    strength[0, 0] = 0
    spectrum = np.fft.rfft2(rng.normal(size=(size, size))) * strength
    image = np.fft.irfft2(spectrum, (size, size))
    return (image / image.std()).astype(np.float32)


def ridges(values: np.ndarray, width: float) -> np.ndarray:
    """Return 1 on the zero lines of a noise field, falling to 0 at about `width` away: veins, marbling."""
    return np.exp(-((values / width) ** 2))


def step(values: np.ndarray, edge: float, softness: float) -> np.ndarray:
    """Return a smooth step: 0 below the edge, 1 above it, over a transition of about `softness`."""
    x = np.clip((values - edge) / (2 * softness) + 0.5, 0, 1)
    return x * x * (3 - 2 * x)
