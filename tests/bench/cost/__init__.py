"""What the pass costs beside capture and torch.fx's own passes, on decoders and on chains of up to a million nodes."""
