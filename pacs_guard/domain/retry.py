"""How long to wait before the next attempt, and when to give up."""

from __future__ import annotations

from dataclasses import dataclass

_LARGEST_EXPONENT = 64  # far beyond any cap, and no float overflows


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Capped exponential back-off with jitter.

    Attributes
    ----------
    max_attempts : int
        Attempts before the work is given up and listed.
    base_seconds : float
        Wait after the first failed attempt.
    factor : float
        What each further failure multiplies the wait by.
    cap_seconds : float
        Longest wait.
    jitter : float
        Share of the wait, 0 to 1, that chance may take away, so that many studies do not come back at once.
    """

    max_attempts: int = 20
    base_seconds: float = 5.0
    factor: float = 2.0
    cap_seconds: float = 900.0
    jitter: float = 0.2

    def delay(self, attempts: int, chance: float) -> float | None:
        """Return the seconds to wait after `attempts` failed attempts, or None to give up.

        Parameters
        ----------
        attempts : int
            Attempts made so far, at least 1.
        chance : float
            A random number in [0, 1).

        Examples
        --------
        >>> RetryPolicy(base_seconds=1, jitter=0).delay(3, chance=0.5)
        4.0
        """
        if attempts >= self.max_attempts:
            return None
        exponent = min(attempts - 1, _LARGEST_EXPONENT)
        wait = min(self.cap_seconds, self.base_seconds * self.factor**exponent)
        return wait * (1.0 - self.jitter * chance)
