"""A dataset folder as an endless, exactly ordered stream of token windows."""
