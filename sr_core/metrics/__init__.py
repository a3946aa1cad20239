"""How near a picture comes to the truth, and what that costs: one file per measure, all on tensors.

Pictures are (B, 3, H, W) R'G'B' with values 0..1 unless said otherwise; a measure gives (B,), one value a
picture. All but the counts of `cost` are differentiable.
"""
