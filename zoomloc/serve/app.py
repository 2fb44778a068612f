"""The application: where photos were taken, over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import PurePath
from typing import Annotated, Any

import shapely
from fastapi import Depends, FastAPI, File, Form, HTTPException, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import StringConstraints
from starlette.formparsers import MultiPartParser

from zoomloc import outputs
from zoomloc.errors import PhotoError, RegionError, ZoomlocError
from zoomloc.localizer import ANSWER_RADIUS_M, Localizer
from zoomloc.options import SearchName
from zoomloc.region import Region
from zoomloc.serve.answers import Answers, Failed, Health, Located, Problem, RegionFacts
from zoomloc.serve.gate import Gate, Limits
from zoomloc.serve.question import Known, read
from zoomloc.serve.record import FACTS, Metrics, Record
from zoomloc.serve.worker import Full, Question, Worker

DESCRIPTION = (
    "Says where street photos were taken, in the regions served. Errors are JSON with one line, `detail`."
)
NAME_LENGTH = 200
DECODERS = 2  # threads; each may hold one whole photo, of at most `photo.MAX_PIXELS`
PATHS = frozenset({"/locate", "/regions", "/healthz", "/readyz", "/metrics", "/openapi.json"})
ANY: dict[int | str, dict[str, Any]] = {401: {"model": Problem}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    **{status: {"model": Problem} for status in (400, 401, 404, 408, 413, 422)},
    **{
        status: {"model": Problem, "headers": {"Retry-After": {"schema": {"type": "integer"}}}}
        for status in (429, 503)
    },
}
Text = Annotated[str, StringConstraints(max_length=100_000)]
Number = Annotated[float, Form(ge=0, le=1e6, allow_inf_nan=False)]


def create_app(
    localizer: Localizer,
    regions: Sequence[Region],
    *,
    limits: Limits | None = None,
    api_key: str | None = None,
    log_answers: bool = False,
    failed: Callable[[], None] = lambda: None,
) -> FastAPI:
    """The service of a model in some regions.

    api_key: clients must send it, as `Authorization: Bearer KEY`. log_answers: names and positions may stand in the
    log. failed: called when a region's imagery turns out to be unreadable; `app.state.worker.error` says why. Raises
    CheckpointError for a region that does not fit the model, RegionError for two of one name.
    """
    limits = limits or Limits()
    if len({region.name for region in regions}) < len(regions):
        raise RegionError("two regions have the same name, and could not be told apart; rename one")
    for region in regions:
        localizer.check_fits(region)
    MultiPartParser.spool_max_size = limits.upload_bytes  # uploads never touch the disk
    metrics = Metrics(waiting=lambda: worker.waiting)
    worker = Worker(
        localizer,
        regions,
        batch_size=limits.batch_size,
        max_waiting=limits.waiting,
        told=metrics.batched,
    )

    @asynccontextmanager
    async def working(app: FastAPI) -> AsyncIterator[None]:
        worker.start(failed)
        with ThreadPoolExecutor(DECODERS, "zoomloc-decoder") as app.state.decoders:
            yield
        await asyncio.to_thread(worker.close)

    app = FastAPI(
        title="ZoomLoc",
        description=DESCRIPTION,
        lifespan=working,
        docs_url=None,  # these pages load their programs from other servers
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.worker, app.state.metrics, app.state.limits = worker, metrics, limits
    app.state.log_answers = log_answers
    app.add_middleware(Gate, limits=limits, api_key=api_key)
    app.add_middleware(Record, metrics=metrics, paths=PATHS)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)
    keyed = [Depends(HTTPBearer(auto_error=False))] if api_key is not None else []  # told in the schema
    app.post("/locate", response_model=Answers, responses=PROBLEMS, dependencies=keyed)(locate)
    app.get("/regions", dependencies=keyed, responses=ANY)(list_regions)
    app.get("/metrics", dependencies=keyed, response_class=Response, responses=ANY)(show_metrics)
    app.get("/healthz")(healthz)
    app.get("/readyz", response_model=Health, responses={503: {"model": Health}})(readyz)
    return app


async def locate(
    request: Request,
    photos: Annotated[
        list[UploadFile], File(min_length=1, description="Street photos: JPEG, HEIC, PNG and other kinds.")
    ],
    region: Annotated[
        str | None, Form(description="The region's name; may be left out where only one is served.")
    ] = None,
    near: Annotated[Text | None, Form(description="LAT,LON,RADIUS_M: taken within so many metres.")] = None,
    within: Annotated[
        Text | None, Form(description="Taken in this area: WEST,SOUTH,EAST,NORTH, or GeoJSON.")
    ] = None,
    gps_prior: Annotated[
        Number | None,
        Form(description="Use the EXIF position, good to so many metres (1 sigma); 0: as the camera says."),
    ] = None,
    heading_prior: Annotated[
        Number | None,
        Form(description="Use the EXIF heading, good to so many degrees (1 sigma); 0: to 15."),
    ] = None,
    search: Annotated[
        SearchName, Form(description="How the tree of cells is searched.")
    ] = SearchName.posterior,
    top: Annotated[int, Form(ge=1, le=100, description="Places to list.")] = 5,
    radius: Annotated[
        float,
        Form(ge=1, le=1e6, description="Metres around the answer that shall hold the most probability."),
    ] = ANSWER_RADIUS_M,
) -> Any:
    """Say where photos were taken. A photo that cannot be used gets an error of its own, beside the others' answers."""
    worker: Worker = request.app.state.worker
    limits: Limits = request.app.state.limits
    if not worker.ready:
        raise HTTPException(503, "not ready yet, or ending; see /readyz", {"Retry-After": "5"})
    if len(photos) > limits.photos:
        raise HTTPException(413, f"{len(photos)} photos; send at most {limits.photos} at once")
    try:
        known = Known.of(
            worker.localizer,
            _named(worker.regions, region),
            near=near,
            within=within,
            gps_sigma_m=gps_prior,
            heading_sigma_deg=heading_prior,
            how=search.value,
            top_k=top,
            radius_m=radius,
        )
    except ZoomlocError as error:
        raise HTTPException(422, str(error)) from None
    asked = [await _question(request, upload, i, known) for i, upload in enumerate(photos, start=1)]
    answers = await _answers(request.app, asked)
    facts = request.scope[FACTS]
    facts["photos"], facts["failed"] = len(answers), sum("error" in answer for answer in answers)
    if request.app.state.log_answers:
        facts["answers"] = answers
    return JSONResponse({"photos": answers})


async def list_regions(request: Request) -> list[RegionFacts]:
    """The regions that can be asked about."""
    return [_facts(region) for region in request.app.state.worker.regions]


async def show_metrics(request: Request) -> Response:
    """What the service did so far, as Prometheus reads it."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def healthz() -> Health:
    """That the service runs."""
    return Health(status="ok")


async def readyz(request: Request) -> Any:
    """Whether photos are located: not while regions are still being encoded, nor at the end."""
    ready = request.app.state.worker.ready
    return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)


async def _question(request: Request, upload: UploadFile, number: int, known: Known) -> Question | Failed:
    """A photo decoded and shrunk; of the upload nothing more is kept."""
    name = PurePath((upload.filename or "").replace("\\", "/")).name[:NAME_LENGTH] or f"photo-{number}"
    content = await upload.read()
    await upload.close()
    try:
        decoders = request.app.state.decoders
        return await asyncio.get_running_loop().run_in_executor(decoders, read, name, content, known)
    except PhotoError as error:
        return Failed(photo=name, error=str(error))


async def _answers(app: FastAPI, asked: Sequence[Question | Failed]) -> list[dict[str, Any]]:
    """In the order asked."""
    questions = [each for each in asked if isinstance(each, Question)]
    try:
        app.state.worker.ask(questions)
        async with asyncio.timeout(app.state.limits.answer_s):
            found = iter(await asyncio.gather(*(asyncio.wrap_future(each.answer) for each in questions)))
    except Full as full:
        headers = {"Retry-After": str(full.retry_after_s)}
        raise HTTPException(429, "as many photos wait as may; try again later", headers) from None
    except TimeoutError:
        late = f"no answer within {app.state.limits.answer_s:g} s; try again later"
        raise HTTPException(503, late, {"Retry-After": "10"}) from None
    outcomes = app.state.metrics.photos
    answers: list[dict[str, Any]] = []
    for each in asked:
        if isinstance(each, Failed):
            outcomes.labels("failed").inc()
            answers.append(each.model_dump())
            continue
        prediction = next(found)
        outcomes.labels("located" if prediction.located else "not_here").inc()
        answers.append(Located(**outputs.record(prediction)).model_dump())
    return answers


def _facts(region: Region) -> RegionFacts:
    grid = region.grid
    return RegionFacts(
        name=region.name,
        crs=region.crs,
        size_m=region.size_m,
        leaf_m=grid.leaf_m,
        attribution=region.attribution,
        outline=json.loads(shapely.to_geojson(grid.polygon(grid.root))),
    )


def _named(regions: Sequence[Region], name: str | None) -> Region:
    by_name = {region.name: region for region in regions}
    if name is None and len(regions) == 1:
        return regions[0]
    if name in by_name:
        return by_name[name]
    names = ", ".join(by_name)
    raise HTTPException(404 if name else 422, f"region: name one of those served: {names}")


async def _invalid(_: Request, error: Exception) -> Response:
    """The first thing wrong with the fields, in one line."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)


async def _unexpected(_: Request, __: Exception) -> Response:
    """A mistake of ours: the server logs it."""
    return JSONResponse({"detail": "something went wrong here; the server's log says what"}, 500)
