"""Networks and how they learn: backbones, heads, data feeding, recipe, device."""
