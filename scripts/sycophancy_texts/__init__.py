"""The texts of the synthetic sycophancy probes."""
