"""Many files at once, product by product, until all are there or it is known why not."""

import queue
import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from cloudsom.downloads import records
from cloudsom.downloads.archives import check_product_zip, safe_path
from cloudsom.downloads.client import Auth, Client, DownloadError, settle
from cloudsom.downloads.display import human
from cloudsom.downloads.names import Product
from cloudsom.downloads.transfer import Corrupt, Remote, Unusable, bytes_there, discard_partial, fetch, publish
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

    def to_come(self, folder: Path) -> int:
        """How many bytes of it are not on disk yet."""
        sizes = [(remote, UNKNOWN_SIZE if remote.size is None else remote.size) for remote in self.files]
        return sum(max(0, size - bytes_there(self.place(folder, remote))) for remote, size in sizes)

    def check_zip(self, folder: Path, path: Path) -> None:
        """The last thing before a zip gets its name: it is looked into and read through, and its record is written."""
        remote = self.files[0]
        try:
            check_product_zip(path, self.delivered)
        except Corrupt as fault:
            if remote.checksum:  # fetching it again would bring the same
                raise Unusable(f"{remote.name}: {fault}, though its checksum is right: ask the source") from None
            raise
        self.record(folder, path)

    def record(self, folder: Path, content: Path) -> None:
        """Write the product's record, while it is still `content`: a product never stands there without its record."""
        facts = {
            "name": self.product.name,
            "source": self.source,
            "delivered": self.delivered,
            "reprocessed": self.reprocessed,
            "whole": self.whole,
            "tile": self.product.tile,
            "url": self.url,
        }
        checksums = {remote.name: remote.checksum for remote in self.files}
        records.write(self.target(folder), facts, checksums, content)


@dataclass(frozen=True)
class Fetched:
    """A line of the final table."""

    name: str
    state: str
    source: str
    size: int | None = None
    reason: str = ""

    @classmethod
    def unavailable(cls, name: str, source: str, problem: DownloadError) -> "Fetched":
        """The line for what a source could not give."""
        return cls(name, problem.state, source, None, str(problem))


class Source(ABC):
    """A place products come from: its name, how many requests at once it allows, and what its answers are called.

    KeyError, TypeError, ValueError and AttributeError of `find` are told as an answer that makes no sense.
    """

    name: str
    most_connections: int
    answer: str
    whole: bool = False  # whether every file of a product is wanted, of one that is there too

    def prepare(self, products: list[Product]) -> None:
        """Ask what is asked once for all products."""
        return

    @abstractmethod
    def find(self, product: Product) -> Delivery:
        """How to get a product; raises DownloadError where it cannot be had."""


def in_threads(
    action: Callable[[Item], Result], items: Sequence[Item], threads: int, client: Client
) -> Generator[Result, None, None]:
    """The result of `action` for each item, as they come; raises what `action` raises.

    When that or the consumer ends it early (Ctrl-C, disk full), the threads are told to stop and waited for a moment.
    One that hangs on a silent server is left behind: a partial file is good at every byte.
    """
    futures: list[Future[Result]] = [Future() for _ in items]
    todo: queue.SimpleQueue[tuple[Item, Future[Result]]] = queue.SimpleQueue()
    for task in zip(items, futures, strict=True):
        todo.put(task)

    def work() -> None:
        with suppress(queue.Empty):
            while not client.stop.is_set():
                item, future = todo.get_nowait()
                settle(future, partial(action, item))

    workers = [threading.Thread(target=work, daemon=True) for _ in range(min(threads, len(items)))]
    for worker in workers:
        worker.start()
    try:
        for future in as_completed(futures):
            yield future.result()
    except BaseException:
        client.stop.set()
        raise
    finally:
        end = time.monotonic() + SECONDS_TO_STOP
        for worker in workers:
            worker.join(max(0.0, end - time.monotonic()))


def obtain(
    products: list[Product],
    folder: Path,
    source: Source | None,
    client: Client,
    threads: int,
    margin: int = 0,
    allow_reprocessed: bool = False,
) -> list[Fetched]:
    """Bring every product that is not in the folder yet; one outcome a product, in order.

    Without a source nothing is fetched, and what is missing is said so. Raises UserError where there is no room for
    them with `margin` bytes to spare.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = {product.name: _on_disk(product, folder, source, client, allow_reprocessed) for product in products}
    absent = [product for product in products if outcomes[product.name] is None]
    if source is None:
        outcomes |= {product.name: Fetched(product.name, "missing", "local", None, "not there") for product in absent}
    elif absent:
        client.tell(f"{source.name}: looking up {len(absent)} of {len(products)} products")
        source.prepare(absent)
        threads = min(threads, source.most_connections)
        with closing(in_threads(partial(_look_up, source), absent, threads, client)) as results:
            found = list(results)
        plans = [plan for plan in found if isinstance(plan, Delivery)]
        check_room(folder, sum(plan.to_come(folder) for plan in plans), margin)
        fetched = _fetch_all(folder, plans, client, threads)
        outcomes |= {o.name: o for o in (*found, *fetched) if isinstance(o, Fetched)}
    return [outcome for product in products if (outcome := outcomes[product.name])]


def _on_disk(
    product: Product, folder: Path, source: Source | None, client: Client, allow_reprocessed: bool
) -> Fetched | None:
    """The outcome for a product that needs no fetching; None where it is to be fetched."""
    found = records.find(folder, product.name)
    if found is None:
        return None
    delivered = found.record.get("delivered")
    reprocessed = f"reprocessed, as {delivered}" if found.record.get("reprocessed") else ""
    if reprocessed and not allow_reprocessed:
        reason = f"{found.path.name} is {reprocessed}: remove it, or set ALLOW_REPROCESSED"
        return Fetched(product.name, "failed", found.source, found.size, reason)
    if found.fault and (source is None or found.source == records.BY_HAND):
        return Fetched(product.name, "failed", found.source, None, f"{found.path.name}: {found.fault}; move it away")
    wants_more = source is not None and source.whole and found.record.get("whole") is False
    if found.fault or wants_more:
        _back_to_partial(found, client)
        return None
    return Fetched(product.name, "there", found.source, found.size, reprocessed)


def _back_to_partial(found: records.OnDisk, client: Client) -> None:
    """A product of ours that was damaged since, or lacks files: good files are kept, the rest is fetched again."""
    if found.path.is_dir():
        client.tell(f"{found.path.name}: {found.fault or 'holds bands and metadata only'}; fetching what is missing")
        partial_folder = stores.partial_path(found.path)
        stores.remove(partial_folder)
        found.path.rename(partial_folder)
    else:
        aside = found.path.with_name(found.path.name + ".damaged")
        client.tell(f"{found.path.name}: {found.fault}; kept as {aside.name}, fetching it again")
        found.path.rename(aside)
    stores.record_path(found.path).unlink(missing_ok=True)


def _look_up(source: Source, product: Product) -> Delivery | Fetched:
    try:
        return source.find(product)
    except DownloadError as problem:
        return Fetched.unavailable(product.name, source.name, problem)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Fetched.unavailable(product.name, source.name, DownloadError(f"{source.answer} makes no sense"))


def check_room(folder: Path, needed: int, margin: int) -> None:
    """Raise UserError unless `needed` bytes fit in a folder with `margin` bytes to spare."""
    free = shutil.disk_usage(folder).free
    if needed and needed + margin > free:
        raise UserError(
            f"{folder}: {human(needed)} are to come and {human(margin)} to stay free, but only {human(free)} are free; "
            "make room, name fewer PRODUCTS, or lower DISK_MARGIN_GB"
        )


def _fetch_all(folder: Path, plans: list[Delivery], client: Client, threads: int) -> list[Fetched]:
    for plan in plans:
        if not plan.zipped:
            stores.own_folder(stores.partial_path(plan.target(folder)))
    tasks = [(plan, remote) for plan in plans for remote in plan.files]
    open_files = Counter(plan.product.name for plan, _ in tasks)
    failed: dict[str, Fetched] = {}
    outcomes: list[Fetched] = []

    def bring(task: tuple[Delivery, Remote]) -> tuple[Delivery, DownloadError | None]:
        plan, remote = task
        check = partial(plan.check_zip, folder) if plan.zipped else None
        try:
            fetch(client, remote, plan.place(folder, remote), plan.auth, check, ours=not plan.zipped)
        except DownloadError as problem:
            return plan, problem
        return plan, None

    sizes = [remote.size for _, remote in tasks]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    workers = in_threads(bring, tasks, threads, client)
    with client.display.counting(len(tasks), total), closing(workers) as results:
        for plan, problem in results:
            name = plan.product.name
            if problem:
                failed.setdefault(name, Fetched.unavailable(name, plan.source, problem))
            open_files[name] -= 1
            if not open_files[name]:
                outcomes.append(failed.get(name) or _finished(folder, plan))
    return outcomes


def _finished(folder: Path, plan: Delivery) -> Fetched:
    """Give a product of which every file came its name and its record."""
    target = plan.target(folder)
    if not plan.zipped:
        content = stores.partial_path(target)
        plan.record(folder, content)
        publish(content, target)
    for ending in (".SAFE", ".SAFE.zip"):  # what an interrupted run may have fetched from another source
        discard_partial(folder / f"{plan.product.name}{ending}")
    state, reason = "fetched", "" if plan.delivered == plan.product.name else f"there as {plan.delivered}"
    if plan.reprocessed:
        state, reason = "reprocessed", f"as {plan.delivered}"
    return Fetched(plan.product.name, state, plan.source, records.OnDisk(target).size, reason)


def table(outcomes: list[Fetched]) -> str:
    """The final table: name, state, source, size, reason."""
    rows = [("product", "state", "source", "size", "reason")]
    return in_columns(rows + [(o.name, o.state, o.source, human(o.size) if o.size else "", o.reason) for o in outcomes])


def in_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words as lines, with each column but the last as wide as its longest word."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    lines = ("  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
