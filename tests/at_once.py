"""Several calls in threads of their own, started together."""

import threading
from collections.abc import Callable


def at_once(*actions: Callable[[], object]) -> list[Exception | None]:
    """Run the actions in a thread each, started together; gives what each raised."""
    barrier = threading.Barrier(len(actions))
    raised: list[Exception | None] = [None] * len(actions)

    def run(place: int, action: Callable[[], object]) -> None:
        barrier.wait()
        try:
            action()
        except Exception as error:  # noqa: BLE001 the test looks at every one
            raised[place] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised
