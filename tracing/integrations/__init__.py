"""The passes where a Neuron user already is: one module for each road to a compiler (docs/integrations.md)."""
