"""The service keeps what its OpenAPI schema says, whatever it is sent."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

OPERATIONS = ["POST /locate", "GET /regions", "GET /metrics", "GET /healthz", "GET /readyz"]


@pytest.fixture(scope="module")
def operations(served):
    schema = schemathesis.openapi.from_url(f"{served.client.base_url}/openapi.json")
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}


def test_no_operation_is_left_out(operations):
    assert sorted(operations) == sorted(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_is_one_that_the_schema_tells_of(operations, operation):
    answered = set()

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(operations[operation].as_strategy())
    def check(case):
        # A text may be no place, and an upload no photo: no schema says which are.
        response = case.call_and_validate(excluded_checks=[positive_data_acceptance])
        answered.add(response.status_code)

    check()
    assert answered and max(answered) < 500
