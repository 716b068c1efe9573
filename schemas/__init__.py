"""Contracts shared by pipeline and train."""
