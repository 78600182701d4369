"""Importers of rated image databases: their official layouts on disk become one manifest."""

from iqa_jax.data.databases.registry import DATABASES, Database, get

__all__ = ['DATABASES', 'Database', 'get']
