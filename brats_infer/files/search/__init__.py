"""Finds cases by the names of files and folders; opens no image."""
