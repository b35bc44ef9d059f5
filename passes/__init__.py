"""Graph passes over torch.fx: find, prove and remove the dead BHSD prefix cache."""
