"""Requests for what is being loaded: unavailable for now, over HTTP and gRPC, and answered afterwards."""

import asyncio
import shutil

import grpc
import pytest
from served_application import served
from serving_process import Client, Server, b64, other_model, predict_request
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from kcnn.serving.server.metrics import Metrics
from kcnn.serving.server.models import Models
from kcnn.serving.server.requests import Requests
from kcnn.serving.server.rest import application
from kcnn.serving.server.rpc import Rpc
from kcnn.serving.server.settings import ServedModel, Settings
from kcnn.serving.server.status import StatusError

LATER = "model tiny is being loaded: try again later"


def test_http_and_grpc_say_that_a_model_is_being_loaded(export_dir, pictures):
    body = {"instances": [b64(pictures[0])]}
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    status = get_model_status_pb2.GetModelStatusRequest()
    metadata.model_spec.name = status.model_spec.name = "tiny"

    async def ask():
        requests = Requests(Settings((ServedModel("tiny", export_dir.parent),), port=0))
        rpc = Rpc(requests, 100)
        await rpc.start()
        target = f"127.0.0.1:{rpc.port}"
        async with served(application(requests)) as (address, _), grpc.aio.insecure_channel(target) as channel:
            client = Client(Server(None, None, address[1], rpc.port))
            prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            models = model_service_pb2_grpc.ModelServiceStub(channel)
            calls = [
                (prediction.Predict, predict_request(image_bytes=[pictures[0]])),
                (prediction.GetModelMetadata, metadata),
                (models.GetModelStatus, status),
            ]
            paths = [
                ("/v1/models/tiny:predict", body),
                ("/v1/models/tiny/versions/1:predict", body),
                ("/v1/models/tiny/labels/stable:predict", body),
                ("/v1/models/tiny/metadata", None),
                ("/v1/models/tiny", None),
            ]
            for path, content in paths:
                assert await asyncio.to_thread(client.ask, path, content) == (503, {"error": LATER})
                assert client.headers["retry-after"] == "1"
            for call, asked in calls:
                with pytest.raises(grpc.aio.AioRpcError, match=LATER) as error:
                    await call(asked, timeout=30)
                assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert (await asyncio.to_thread(client.ask, "/v1/models/nope:predict", body))[0] == 404
            assert (await asyncio.to_thread(client.ask, "/healthz"))[0] == 200
            assert (await asyncio.to_thread(client.ask, "/readyz"))[0] == 503
            await requests.models.poll()
            for path, content in paths:
                assert (await asyncio.to_thread(client.ask, path, content))[0] == 200
            for call, asked in calls:
                await call(asked, timeout=30)
            assert (await asyncio.to_thread(client.ask, "/v1/models/tiny/versions/9", None))[0] == 404
        await rpc.stop(0)

    asyncio.run(ask())


def test_what_answers_while_a_version_is_loaded(tmp_path):
    """Ask all the time: at the start, when a version comes back, and when another comes beside it."""
    folder, made = tmp_path / "tiny", tmp_path / "made"
    other_model(made)

    async def ask():
        models = Models(Settings((ServedModel("tiny", folder),)), Metrics())

        def outcome(**asked):
            try:
                return models.find("tiny", **asked).version
            except StatusError as error:
                return error.code.name

        async def outcomes(**asked):
            """Return what a request gets while the folder is looked at, each outcome once."""
            look, found = asyncio.create_task(models.poll()), [outcome(**asked)]
            while not look.done():
                await asyncio.sleep(0.001)
                found.append(outcome(**asked))
            await look
            await asyncio.gather(*models._unloading)
            return list(dict.fromkeys(found))

        shutil.copytree(made, folder / "1")
        assert await outcomes() == ["UNAVAILABLE", 1]
        shutil.rmtree(folder / "1")
        await outcomes()
        assert outcome() == "NOT_FOUND"
        shutil.copytree(made, folder / "1")
        assert await outcomes(version=1) == ["NOT_FOUND", "UNAVAILABLE", 1]
        shutil.copytree(made, folder / "2")
        assert await outcomes() == [1, 2]
        (folder / "3").mkdir()
        (folder / "3" / "saved_model.pb").write_bytes(b"broken")
        await outcomes()
        assert (outcome(version=3), outcome()) == ("NOT_FOUND", 2)

    asyncio.run(ask())
