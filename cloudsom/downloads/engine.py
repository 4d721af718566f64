"""Many files at once, product by product, until all are there or it is known why not."""

import queue
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

from cloudsom.downloads import records
from cloudsom.downloads.archives import check_product_zip, safe_path
from cloudsom.downloads.client import Auth, Client, DownloadError, Stopped
from cloudsom.downloads.display import Display, human
from cloudsom.downloads.names import Product
from cloudsom.downloads.transfer import (
    Corrupt,
    DiskFull,
    Remote,
    Unusable,
    bytes_there,
    discard_partial,
    fetch,
    publish,
)
from cloudsom.errors import UserError
from cloudsom.files import stores

Item = TypeVar("Item")
Result = TypeVar("Result")

SECONDS_TO_STOP = 1.5  # how long threads may take to notice that the run is being stopped
UNKNOWN_SIZE = 800_000_000  # bytes reckoned for a product whose size is not said: a full tile

THERE = ("there", "fetched", "reprocessed")  # states of a product that the next steps can use


@dataclass
class Delivery:
    """How to get a product: its files, as one zip or as the files of a folder, and what to record about it.

    `delivered` is the product's name at the source: another one for old long names and for reprocessed products.
    """

    product: Product
    source: str
    files: list[Remote]
    zipped: bool
    delivered: str
    url: str
    auth: Auth | None = None
    reprocessed: bool = False
    whole: bool = True

    def target(self, folder: Path) -> Path:
        """The product's final path."""
        return folder / (f"{self.product.name}.SAFE" + (".zip" if self.zipped else ""))

    def place(self, folder: Path, remote: Remote) -> Path:
        """Where a file of this product is fetched to."""
        target = self.target(folder)
        return target if self.zipped else stores.partial_path(target) / safe_path(remote.name, self.source)

    def check(self, folder: Path, remote: Remote) -> Callable[[Path], None] | None:
        """The last thing before a zip gets its name: it is looked into and read through, and its record is written."""
        if not self.zipped:
            return None

        def check(path: Path) -> None:
            try:
                check_product_zip(path, self.delivered)
            except Corrupt as fault:
                if remote.checksum:  # fetching it again would bring the same
                    raise Unusable(f"{remote.name}: {fault}, though its checksum is right: ask the source") from None
                raise
            self.record(folder, path)

        return check

    def record(self, folder: Path, content: Path) -> None:
        """Write the product's record, while it is still `content`: a product never stands there without its record."""
        checksums = {remote.name: remote.checksum for remote in self.files}
        records.write(self.target(folder), self.facts(), checksums, content)

    def facts(self) -> dict[str, Any]:
        """What the record beside the product says."""
        return {
            "name": self.product.name,
            "source": self.source,
            "delivered": self.delivered,
            "reprocessed": self.reprocessed,
            "whole": self.whole,
            "tile": self.product.tile,
            "url": self.url,
        }


@dataclass
class Fetched:
    """A line of the final table."""

    name: str
    state: str
    source: str
    size: int | None = None
    reason: str = ""


class Source(Protocol):
    """A place products come from, and how many files at once it allows."""

    name: str
    most_connections: int

    def look_up(self, products: list[Product]) -> Iterator[tuple[Product, "Delivery | DownloadError"]]:
        """How to get each product, or why it cannot be had."""


@dataclass
class Order:
    """What is wanted, and where it goes."""

    products: list[Product]
    folder: Path
    whole: bool = False
    allow_reprocessed: bool = False
    margin: int = 0
    outcomes: dict[str, Fetched] = field(default_factory=dict)


def in_threads(
    action: Callable[[Item], Result], items: Iterable[Item], threads: int, client: Client
) -> Generator[tuple[Item, Result | BaseException], None, None]:
    """Each item with the result of `action`, or the exception it raised, as they come.

    When the consumer ends early (Ctrl-C, disk full), the threads are told to stop and waited for a moment. One that
    hangs on a silent server is left behind: nothing it holds needs an end, a partial file is good at every byte.
    """
    todo: queue.SimpleQueue[Item] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Item, Result | BaseException]] = queue.SimpleQueue()
    count = 0
    for item in items:
        todo.put(item)
        count += 1

    def work() -> None:
        while not client.stop.is_set():
            try:
                item = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((item, action(item)))
            except BaseException as problem:
                done.put((item, problem))

    workers = [threading.Thread(target=work, daemon=True) for _ in range(min(threads, count))]
    for worker in workers:
        worker.start()
    finished = False
    try:
        for _ in range(count):
            yield done.get()
        finished = True
    finally:
        if not finished:
            client.stop.set()
        end = time.monotonic() + SECONDS_TO_STOP
        for worker in workers:
            worker.join(max(0.0, end - time.monotonic()))


def obtain(order: Order, source: Source | None, client: Client, display: Display, threads: int) -> list[Fetched]:
    """Bring every product of the order that is not there yet; one outcome a product, in order.

    Without a source nothing is fetched, and what is missing is said so. Raises UserError when there is not enough room.
    """
    order.folder.mkdir(parents=True, exist_ok=True)
    absent = [product for product in order.products if not _is_there(order, product, source, display)]
    if source is None:
        for product in absent:
            _note(order, product, "missing", "local", "not there")
    elif absent:
        display.line(f"{source.name}: looking up {len(absent)} of {len(order.products)} products")
        plans = list(_plans(order, source, absent))
        _check_room(order, plans)
        _fetch_all(order, plans, client, display, min(threads, source.most_connections))
    return [order.outcomes[product.name] for product in order.products]


def _note(order: Order, product: Product, state: str, source: str, reason: str = "", size: int | None = None) -> None:
    order.outcomes[product.name] = Fetched(product.name, state, source, size, reason)


def _is_there(order: Order, product: Product, source: Source | None, display: Display) -> bool:
    """Whether nothing is left to do for a product; its outcome is noted then."""
    found = records.find(order.folder, product.name)
    if found is None:
        return False
    ours = found.source != records.BY_HAND
    delivered = found.record.get("delivered")
    reprocessed = f"reprocessed, as {delivered}" if found.record.get("reprocessed") else ""
    if reprocessed and not order.allow_reprocessed:
        reason = f"{found.path.name} is {reprocessed}: remove it, or set ALLOW_REPROCESSED"
        _note(order, product, "failed", found.source, reason, found.size)
        return True
    if found.fault and (source is None or not ours):
        _note(order, product, "failed", found.source, f"{found.path.name}: {found.fault}; move it away")
        return True
    wants_more = order.whole and found.record.get("whole") is False and source is not None and source.name == "gcs"
    if found.fault or wants_more:
        _back_to_partial(found, display)
        return False
    _note(order, product, "there", found.source, reprocessed, found.size)
    return True


def _back_to_partial(found: records.OnDisk, display: Display) -> None:
    """A product of ours that was damaged since, or lacks files: good files are kept, the rest is fetched again."""
    if found.path.is_dir():
        display.line(f"{found.path.name}: {found.fault or 'holds bands and metadata only'}; fetching what is missing")
        partial = stores.partial_path(found.path)
        stores.remove(partial)
        found.path.rename(partial)
    else:
        aside = found.path.with_name(found.path.name + ".damaged")
        display.line(f"{found.path.name}: {found.fault}; kept as {aside.name}, fetching it again")
        found.path.rename(aside)
    stores.record_path(found.path).unlink(missing_ok=True)


def _plans(order: Order, source: Source, absent: list[Product]) -> Iterator[Delivery]:
    for product, plan in source.look_up(absent):
        if isinstance(plan, Delivery):
            yield plan
        else:
            _note(order, product, plan.state, source.name, str(plan))


def _check_room(order: Order, plans: list[Delivery]) -> None:
    needed = 0
    for plan in plans:
        for remote in plan.files:
            size = UNKNOWN_SIZE if remote.size is None else remote.size
            needed += max(0, size - bytes_there(plan.place(order.folder, remote)))
    check_room(order.folder, needed, order.margin)


def check_room(folder: Path, needed: int, margin: int) -> None:
    """Raise UserError unless `needed` bytes fit in a folder with `margin` bytes to spare."""
    free = shutil.disk_usage(folder).free
    if needed and needed + margin > free:
        raise UserError(
            f"{folder}: {human(needed)} are to come and {human(margin)} to stay free, but only {human(free)} are free; "
            "make room, name fewer PRODUCTS, or lower DISK_MARGIN_GB"
        )


def _fetch_all(order: Order, plans: list[Delivery], client: Client, display: Display, threads: int) -> None:
    for plan in plans:
        if not plan.zipped:
            stores.own_folder(stores.partial_path(plan.target(order.folder)))
    tasks = [(plan, remote) for plan in plans for remote in plan.files]
    open_files = Counter(plan.product.name for plan, _ in tasks)
    problems: dict[str, BaseException] = {}

    def bring(task: tuple[Delivery, Remote]) -> None:
        plan, remote = task
        place, check = plan.place(order.folder, remote), plan.check(order.folder, remote)
        with display.file(PurePosixPath(remote.name).name, remote.size) as at:
            fetch(client, remote, place, plan.auth, check, at, ours=not plan.zipped)

    sizes = [remote.size for _, remote in tasks]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    with display.counting(len(tasks), total), closing(in_threads(bring, tasks, threads, client)) as results:
        for (plan, _), problem in results:
            name = plan.product.name
            if isinstance(problem, DiskFull):
                raise problem
            if isinstance(problem, BaseException):
                problems.setdefault(name, problem)
            open_files[name] -= 1
            if not open_files[name]:
                _finish(order, plan, problems.get(name))


def _finish(order: Order, plan: Delivery, problem: BaseException | None) -> None:
    """A product of which every file was tried: give it its name and record, or note what was wrong."""
    if isinstance(problem, DownloadError):
        _note(order, plan.product, problem.state, plan.source, str(problem))
    elif isinstance(problem, Stopped):
        _note(order, plan.product, "failed", plan.source, "stopped")
    elif problem is not None:
        raise problem
    else:
        target = plan.target(order.folder)
        partial = stores.partial_path(target)
        if not plan.zipped:
            plan.record(order.folder, partial)
            publish(partial, target)
        for ending in (".SAFE", ".SAFE.zip"):  # what an interrupted run may have fetched from another source
            discard_partial(order.folder / f"{plan.product.name}{ending}")
        size = records.OnDisk(target).size
        if plan.reprocessed:
            _note(order, plan.product, "reprocessed", plan.source, f"as {plan.delivered}", size)
        else:
            named = "" if plan.delivered == plan.product.name else f"there as {plan.delivered}"
            _note(order, plan.product, "fetched", plan.source, named, size)


def table(outcomes: list[Fetched]) -> str:
    """The final table: name, state, source, size, reason."""
    rows = [("product", "state", "source", "size", "reason")]
    return in_columns(rows + [(o.name, o.state, o.source, human(o.size) if o.size else "", o.reason) for o in outcomes])


def in_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words as lines, with each column but the last as wide as its longest word."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    lines = ("  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
