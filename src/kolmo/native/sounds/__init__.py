"""The mixer of sound: adaptive predictions of samples, mixed bit by bit (docs/audio.md)."""
