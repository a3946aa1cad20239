"""Going down a loss from a picture, as a network's output would."""

from collections.abc import Callable

from torch import Tensor


def lowered(loss: Callable[[Tensor], Tensor], picture: Tensor, num_steps: int, step: float) -> list[float]:
    """The loss before and after some steps of a fixed length per pixel against its gradient's sign."""
    values, current = list[float](), picture
    for _ in range(num_steps):
        current = current.detach().requires_grad_()
        value = loss(current)
        value.backward()
        assert current.grad is not None
        values.append(float(value.detach()))
        current = current.detach() - step * current.grad.sign()
    return [*values, float(loss(current.detach()))]
