"""What stands beside the textbook attention: fused kernels, one signature for all."""
