"""All studies."""

from bench.studies import crowd, end_to_end, rest, slow_client, storm, stuck_clients

STUDIES = (slow_client.STUDY, stuck_clients.STUDY, end_to_end.STUDY, crowd.STUDY, storm.STUDY, rest.STUDY)
