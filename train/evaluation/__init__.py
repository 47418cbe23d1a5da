"""Embeddings, distances, CMC, mAP and re-ranking."""
