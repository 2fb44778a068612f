"""Decoded tiles in memory: never more than allowed, each made once, whatever threads and processes do."""

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiles.cache import TileCache


def array(n_bytes, value=0):
    return np.full(n_bytes, value, np.uint8)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=60))
def test_the_most_recently_used_stay_up_to_the_limit(calls):
    """Held against a list: the plainest cache there is."""
    cache, recent, made = TileCache(100), [], []
    sizes = {}
    for key, size in calls:
        size = sizes.setdefault(key, size)
        made.clear()
        got = cache.get(key, lambda size=size, key=key: made.append(key) or array(size, key))
        assert got.nbytes == size and (got == key).all() and not got.flags.writeable
        assert bool(made) == (key not in recent)
        recent = [other for other in recent if other != key] + [key]
        while sum(sizes[other] for other in recent) > 100:
            recent.pop(0)
        assert cache.n_bytes == sum(sizes[other] for other in recent)


def test_what_is_larger_than_the_cache_is_given_but_turns_nothing_out():
    cache = TileCache(100)
    cache.get("small", lambda: array(90))
    assert cache.get("large", lambda: array(101)).nbytes == 101
    assert cache.n_bytes == 90
    cache.get("small", lambda: pytest.fail("it was there"))


def test_an_array_can_be_changed_only_where_nobody_else_has_it():
    cache = TileCache(100)
    assert cache.get("large", lambda: array(101)).flags.writeable

    def make():
        begun.set()
        while cache._making["large"] is None:
            time.sleep(0.001)
        return array(101)

    begun = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, "large", make)
        begun.wait()
        second = pool.submit(cache.get, "large", make)
        assert first.result() is second.result() and not first.result().flags.writeable


def test_what_does_not_exist_is_asked_for_again():
    cache, asked = TileCache(100), []
    for _ in range(2):
        assert cache.get("nothing", lambda: asked.append(1)) is None
    assert len(asked) == 2 and cache.n_bytes == 0


def test_forgetting_drops_one_owner_only():
    cache = TileCache(1000)
    for owner in ("mine", "yours"):
        for i in range(3):
            cache.get((owner, i), lambda: array(10))
    cache.forget("mine")
    assert cache.n_bytes == 30
    cache.get(("yours", 1), lambda: pytest.fail("it was there"))
    assert cache.get(("mine", 1), lambda: array(10, 7))[0] == 7


def test_threads_that_want_the_same_make_it_once():
    cache, made, at_once = TileCache(1000), [], threading.Barrier(8)

    def make():
        time.sleep(0.05)
        made.append(1)
        return array(10)

    def want(_):
        at_once.wait()
        return cache.get("key", make)

    with ThreadPoolExecutor(8) as pool:
        assert len({id(found) for found in pool.map(want, range(8))}) == 1
    assert len(made) == 1


def test_a_failure_reaches_all_who_wait_and_the_next_call_tries_again():
    cache, at_once = TileCache(1000), threading.Barrier(4)

    def fail():
        time.sleep(0.05)
        raise ValueError("damaged")

    def want(_):
        at_once.wait()
        with pytest.raises(ValueError, match="damaged"):
            cache.get("key", fail)
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(want, range(4)))
    assert cache.get("key", lambda: array(3)).nbytes == 3


def test_the_limit_holds_while_many_threads_make_fail_and_forget():
    cache, limit, over = TileCache(5000), 5000, []
    done = threading.Event()

    def watch():
        while not done.is_set():
            if cache.n_bytes > limit or cache.n_bytes < 0:
                over.append(cache.n_bytes)

    def work(seed):
        rng = np.random.default_rng(seed)
        for owner, key, size, what in rng.integers((0, 0, 1, 0), (3, 40, 900, 20), (600, 4)).tolist():
            size = 1 + (owner * 40 + key) * 7 % 900  # the same for the same key
            if what == 0:
                cache.forget(owner)
            elif what == 1:
                with pytest.raises(ZeroDivisionError):
                    cache.get((owner, key, seed), lambda: 1 // 0)
            else:
                assert cache.get((owner, key), lambda size=size: array(size)).nbytes == size

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
    finally:
        done.set()
        watcher.join()
    assert not over and 0 < cache.n_bytes <= limit
    for owner in range(3):
        cache.forget(owner)
    assert cache.n_bytes == 0


def in_child(cache, key, answers):
    answers.put((cache.n_bytes, int(cache.get(key, lambda: array(5, 9))[0])))


def test_a_fork_while_another_thread_makes_and_holds_the_lock_leaves_the_child_a_working_cache():
    """The child has none of its parent's threads: what they make will never be there, their locks never free."""
    context = multiprocessing.get_context("fork")
    cache, answers = TileCache(1000), context.Queue()
    cache.get("old", lambda: array(10))
    making, enough = threading.Event(), threading.Event()

    def make():
        making.set()
        enough.wait(20)
        return array(5, 1)

    thread = threading.Thread(target=lambda: cache.get("key", make))
    thread.start()
    making.wait()
    child = context.Process(target=in_child, args=(cache, "key", answers))
    with cache._lock:  # as another thread may at any moment
        child.start()
    try:
        assert answers.get(timeout=10) == (0, 9)
    finally:
        child.kill()
        enough.set()
        thread.join()
    assert cache.get("key", lambda: pytest.fail("it was there"))[0] == 1


def test_a_fork_inside_a_making_goes_on_in_both():
    context = multiprocessing.get_context("fork")
    cache, answers = TileCache(1000), context.Queue()

    def make():
        child = context.Process(target=in_child, args=(cache, "key", answers))
        child.start()
        assert answers.get(timeout=10) == (0, 9)
        child.join()
        return array(5, 1)

    assert cache.get("key", make)[0] == 1
