"""What JAX looks for of CUDA's plugin: only the place of Mosaic's library."""
