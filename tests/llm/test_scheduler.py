"""The scheduler alone: who advances, by how much, and who gives way. No model runs: each step is taken as computed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfxapi.errors import InvalidArgumentError
from perfxlm.engine.block_pool import BlockPool
from perfxlm.engine.request import FinishReason, Request, RequestState
from perfxlm.engine.scheduler import Schedule, Scheduler, SchedulerLimits
from perfxlm.sampling_params import SamplingParams


def make_scheduler(
    num_blocks: int = 64, *, seqs: int = 8, tokens: int = 32, length: int = 256, rows: int = 16, block_size: int = 16
) -> Scheduler:
    return Scheduler(BlockPool(num_blocks, block_size), SchedulerLimits(seqs, tokens, length, rows))


def make_request(name: str, num_prompt: int, max_tokens: int = 8, **options: object) -> Request:
    params = SamplingParams(max_tokens=max_tokens, prompt_logprobs=options.pop("prompt_logprobs", None))  # type: ignore[arg-type]
    return Request(name, range(num_prompt), params, max_tokens=max_tokens, max_blocks=64, vocab_size=128, **options)  # type: ignore[arg-type]


def take_step(scheduler: Scheduler) -> Schedule:
    """Schedules, and samples the token 7 wherever a request is complete."""
    schedule = scheduler.schedule()
    scheduler.complete(schedule)
    for request in schedule.requests:
        if request.num_computed_tokens == request.num_tokens:
            request.append_token(7)
    scheduler.remove_finished(schedule.requests)
    return schedule


def steps(schedule: Schedule) -> list[tuple[str, int]]:
    return [
        (request.request_id, count) for request, count in zip(schedule.requests, schedule.num_new_tokens, strict=True)
    ]


def test_decoding_goes_on_while_a_prompt_is_computed_in_chunks() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request("a", 3))
    scheduler.add(make_request("b", 70))
    scheduler.add(make_request("c", 5))
    assert steps(take_step(scheduler)) == [("a", 3), ("b", 29)]
    assert steps(take_step(scheduler)) == [("a", 1), ("b", 31)]
    assert steps(take_step(scheduler)) == [("a", 1), ("b", 10), ("c", 5)]
    assert steps(take_step(scheduler)) == [("a", 1), ("b", 1), ("c", 1)]


def test_no_more_requests_run_than_allowed() -> None:
    scheduler = make_scheduler(seqs=2)
    for name in "abc":
        scheduler.add(make_request(name, 2, max_tokens=2))
    assert [name for name, _ in steps(take_step(scheduler))] == ["a", "b"]
    assert [name for name, _ in steps(take_step(scheduler))] == ["a", "b"]
    assert steps(take_step(scheduler)) == [("c", 2)]


def test_latest_request_gives_way_and_starts_again() -> None:
    scheduler = make_scheduler(num_blocks=4, length=64)
    first, second = make_request("a", 16, 40), make_request("b", 16, 40)
    scheduler.add(first)
    scheduler.add(second)
    while second.state is not RequestState.PREEMPTED:
        take_step(scheduler)
    assert (first.num_tokens, second.num_tokens) == (34, 33)
    assert (second.num_computed_tokens, second.block_ids) == (0, [])
    while not first.is_finished:
        assert [name for name, _ in steps(take_step(scheduler))] == ["a"]
    assert steps(take_step(scheduler)) == [("b", 32)]
    assert second.num_preemptions == scheduler.num_preemptions == 1


def test_preempted_requests_keep_their_order() -> None:
    scheduler = make_scheduler(num_blocks=6, length=96)
    for name in "abc":
        scheduler.add(make_request(name, 17, 60))
    take_step(scheduler)
    take_step(scheduler)
    assert [request.request_id for request in scheduler.running] == ["a", "b", "c"]
    for name in "cb":
        scheduler.recompute(next(r for r in scheduler.running if r.request_id == name))
    assert [request.request_id for request in scheduler.waiting] == ["b", "c"]


def test_prompt_rows_are_bounded_and_given_once() -> None:
    scheduler = make_scheduler(rows=8, tokens=32)
    request = make_request("a", 21, prompt_logprobs=1)
    scheduler.add(request)
    seen: list[int] = []
    while request.num_output_tokens == 0:
        before = request.num_computed_tokens
        (count,) = scheduler.schedule().num_new_tokens
        rows = request.prompt_rows(count)
        assert len(rows) <= 8
        assert all(before <= row < before + count for row in rows)
        seen += rows
        request.num_prompt_rows_done = rows.stop
        request.num_computed_tokens += count
        if request.num_computed_tokens == request.num_tokens:
            request.append_token(7)
    assert seen == list(range(20))
    scheduler.recompute(request)
    assert scheduler.schedule().num_rows == 1


def test_copies_of_a_prompt_share_its_full_blocks() -> None:
    scheduler = make_scheduler(tokens=64)
    source = make_request("a", 40)
    copies = [make_request("a", 40, prefix_source=source, index=index) for index in (1, 2)]
    for request in (source, *copies):
        scheduler.add(request)
    assert steps(take_step(scheduler)) == [("a", 40)]
    assert steps(take_step(scheduler)) == [("a", 1), ("a", 8), ("a", 8)]
    assert copies[0].block_ids[:2] == copies[1].block_ids[:2] == source.block_ids[:2]
    assert len({request.block_ids[2] for request in (source, *copies)}) == 3
    assert scheduler.pool.num_holders(source.block_ids[0]) == 3
    assert copies[0].num_shared_tokens == 32


def test_copy_of_a_finished_prompt_is_computed_anew() -> None:
    scheduler = make_scheduler(tokens=64)
    source = make_request("a", 40, max_tokens=1)
    scheduler.add(source)
    scheduler.add(make_request("a", 40, max_tokens=1, prefix_source=source, index=1))
    assert steps(take_step(scheduler)) == [("a", 40)]
    assert steps(take_step(scheduler)) == [("a", 40)]
    assert not scheduler.has_unfinished


def test_abort_releases_blocks_in_every_state() -> None:
    scheduler = make_scheduler(seqs=1)
    running, waiting = make_request("a", 20), make_request("b", 20)
    scheduler.add(running)
    scheduler.add(waiting)
    take_step(scheduler)
    for request in (waiting, running, running):
        scheduler.abort([request])
        assert request.finish_reason is FinishReason.ABORT
    assert scheduler.pool.num_free == 64
    assert not scheduler.has_unfinished


def test_cache_too_small_for_one_sequence_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="max_model_len"):
        make_scheduler(num_blocks=3, length=64)


@settings(max_examples=60, deadline=None)
@given(
    prompts=st.lists(
        st.tuples(st.integers(1, 60), st.integers(1, 30), st.booleans(), st.integers(1, 3)), min_size=1, max_size=8
    ),
    num_blocks=st.integers(6, 20),
    tokens=st.integers(1, 40),
    seqs=st.integers(1, 5),
    rows=st.integers(5, 9),
)
def test_everything_finishes_within_all_limits(
    prompts: list[tuple[int, int, bool, int]], num_blocks: int, tokens: int, seqs: int, rows: int
) -> None:
    scheduler = make_scheduler(num_blocks, seqs=seqs, tokens=tokens, length=96, rows=rows)
    requests: list[Request] = []
    for number, (num_prompt, max_tokens, reports, copies) in enumerate(prompts):
        source = make_request(str(number), num_prompt, max_tokens, prompt_logprobs=1 if reports else None)
        requests.append(source)
        requests += [
            make_request(str(number), num_prompt, max_tokens, prefix_source=source, index=index)
            for index in range(1, copies)
        ]
    for request in requests:
        scheduler.add(request)
    for _ in range(20_000):
        if not scheduler.has_unfinished:
            break
        schedule = take_step(scheduler)
        assert 0 < schedule.num_tokens <= tokens
        assert len(schedule.requests) <= seqs
        assert schedule.num_rows <= rows
        held = [block for request in scheduler.running for block in request.block_ids]
        assert scheduler.pool.num_free == num_blocks - len(set(held))
    assert all(request.is_finished for request in requests)
    assert [request.num_output_tokens for request in requests] == [request.max_tokens for request in requests]
    assert scheduler.pool.num_free == num_blocks
