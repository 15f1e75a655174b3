"""Rollouts, scores, pictures, reports."""
