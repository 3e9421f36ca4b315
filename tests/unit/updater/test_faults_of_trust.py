"""Faults of trust, repository and client that were seen once: for each, the fast tests that hold it off.

What was seen is in the words of each row; a row whose tests went away fails here.
"""

from __future__ import annotations

import pytest

from tests.fault_list import Faults, check_fault

AGENT, TRANSFER, REPOSITORY = "tests/unit/updater/agent", "tests/unit/updater/transfer", "tests/unit/updater/repository"
TO_CLIENT, ON_FOLDER = "tests/integration/test_repository_to_client.py", "tests/integration/test_host_folder.py"

FAULTS: Faults = {
    "T1": (
        "other content under the path of a release that a channel names was installed",
        {
            f"{AGENT}/test_agent.py": (
                "test_a_release_that_was_changed_after_it_was_promoted_is_refused_before_anything_is_written",
            ),
            TO_CLIENT: ("test_the_pipelines_keys_put_nothing_on_hosts_that_no_release_manager_promoted",),
        },
    ),
    "T2": (
        "a new key in the keyring: a refresh wrote half of a new repository and then refused",
        {
            f"{REPOSITORY}/upkeep/test_refresh.py": (
                "test_a_key_that_the_repository_does_not_trust_is_found_before_anything_is_written",
            ),
            f"{REPOSITORY}/ceremony/test_rotation.py": ("test_a_role_is_rotated_twice_and_every_command_works",),
        },
    ),
    "T3": (
        "after a rotation of the root every command refused, and images carried the first root",
        {
            f"{REPOSITORY}/ceremony/test_rotation.py": ("test_a_role_is_rotated_twice_and_every_command_works",),
            f"{REPOSITORY}/test_cli.py": ("test_a_new_root_is_written_for_the_images_built_from_then_on",),
            TO_CLIENT: ("test_hosts_follow_every_exchange_of_keys_from_the_first_root",),
        },
    ),
    "T4": (
        "with one of three root keys at hand nothing could be signed, then or later",
        {f"{REPOSITORY}/ceremony/test_ceremony.py": ("test_root_and_targets_are_renewed_by_two_of_three",)},
    ),
    "T5": (
        "roles had expired, every host refused, and nobody was told",
        {
            f"{REPOSITORY}/test_cli.py": ("test_a_role_that_stays_expired_is_an_exit_code_of_its_own",),
            "tests/unit/updater/server/test_health.py": ("test_any_expired_role_is_a_problem_by_its_name",),
            f"{AGENT}/test_cli.py": ("test_refused_polls_are_shown_in_words",),
            f"{AGENT}/test_agent_places.py": ("test_a_poll_is_remembered_and_told_when_its_result_changes",),
        },
    ),
    "T6": (
        "a server that could not be reached condemned a good version for ever",
        {
            f"{AGENT}/test_cli.py": (
                "test_an_update_server_that_does_not_answer_never_condemns_a_version",
                "test_a_deadline_waits_as_long_as_the_gate_does",
            ),
            f"{AGENT}/test_agent.py": (
                "test_an_unreachable_server_never_costs_a_version_its_tries",
                "test_a_trial_that_cannot_be_judged_is_left_and_installed_again_a_bounded_number_of_times",
            ),
            f"{AGENT}/test_health.py": ("test_an_update_server_that_stays_away_decides_nothing",),
        },
    ),
    "T7": (
        "the other slot was emptied for objects that no server had",
        {
            f"{AGENT}/test_agent_at_once.py": (
                "test_a_server_without_the_first_bytes_of_any_object_costs_nothing_of_the_other_slot",
            ),
            f"{AGENT}/test_objects.py": (
                "test_what_is_missing_too_long_too_short_or_something_else_is_found_before_anything_is_written",
            ),
        },
    ),
    "T8": (
        "a pace that no calendar has ended in a traceback on every host",
        {
            "tests/unit/updater/documents/test_channel.py": ("test_error_is_refused_and_located",),
            f"{AGENT}/test_client_documents.py": ("test_a_pace_that_no_calendar_has_is_refused_where_it_is_read",),
            f"{AGENT}/test_service.py": ("test_an_error_of_our_own_does_not_end_a_hosts_updates",),
        },
    ),
    "T9": (
        "a malformed redirect or a length of 5,000 digits ended in a traceback",
        {
            f"{TRANSFER}/test_http.py": (
                "test_a_malformed_redirect_is_an_error_in_words",
                "test_a_length_of_very_many_digits_is_no_length",
            )
        },
    ),
    "T10": (
        "header bytes one at a time, endless continuations and trailers never ended",
        {
            f"{TRANSFER}/test_http.py": (
                "test_header_bytes_one_at_a_time_are_given_up",
                "test_a_status_line_one_byte_at_a_time_is_given_up",
                "test_endless_continuations_are_given_up",
                "test_endless_trailers_are_given_up",
                "test_endless_chunk_extensions_are_given_up",
            )
        },
    ),
    "T11": (
        "a body of a byte a second held the lock, and a rollback was told to wait",
        {
            f"{TRANSFER}/test_objects.py": ("test_a_byte_at_a_time_is_given_up",),
            f"{TRANSFER}/test_documents.py": ("test_a_byte_at_a_time_is_given_up_when_the_time_is_over",),
            f"{AGENT}/test_agent_at_once.py": ("test_other_commands_answer_while_an_update_is_downloaded",),
            ON_FOLDER: ("test_other_commands_answer_at_once_while_a_download_is_silent",),
        },
    ),
    "T12": (
        "stopping the agent in a silent transfer took minutes",
        {
            f"{TRANSFER}/test_connection.py": ("test_a_worker_in_a_silent_transfer_ends_at_once_when_it_is_let_go",),
            ON_FOLDER: ("test_an_update_ends_within_two_seconds_when_it_is_asked_to_and_goes_on_later",),
        },
    ),
    "T13": (
        "a host that had to follow hundreds of roots never arrived",
        {
            f"{AGENT}/test_client_trust.py": (
                "test_a_host_that_was_off_for_years_follows_four_hundred_roots_also_in_parts",
            )
        },
    ),
    "T14": (
        "a daily refresh made a root version a day",
        {f"{REPOSITORY}/upkeep/test_refresh.py": ("test_a_daily_refresh_with_a_long_span_makes_no_root_a_day",)},
    ),
    "T15": (
        "a timestamp put back before a refresh left a repository that never verified again",
        {
            f"{REPOSITORY}/upkeep/test_refresh.py": (
                "test_a_timestamp_that_was_put_back_is_gone_on_from_without_going_back",
            )
        },
    ),
    "T16": (
        "a snapshot said to be 3 GiB long took as much memory as was sent",
        {
            f"{AGENT}/test_client_damage.py": (
                "test_a_snapshot_that_is_named_very_long_or_does_not_end_costs_bounded_memory",
            )
        },
    ),
    "T17": (
        "a clock years ahead blamed the repository, one at 1970 accepted what had expired",
        {
            f"{AGENT}/test_client_freshness.py": (
                "test_a_clock_that_is_years_ahead_is_named",
                "test_a_clock_that_is_behind_makes_no_expired_timestamp_good",
                "test_a_clock_that_is_behind_does_not_end_updates_and_is_named",
            )
        },
    ),
    "T18": (
        "proxies were ignored, and a password in the url was printed and never sent",
        {
            f"{TRANSFER}/test_http.py": (
                "test_a_proxy_with_credentials_is_used",
                "test_a_password_in_a_url_is_sent_to_its_own_host_only",
                "test_a_password_is_never_printed",
            ),
            f"{AGENT}/test_server.py": ("test_proxies_of_the_environment_count",),
            f"{AGENT}/test_config.py": ("test_a_password_in_the_settings_is_never_shown",),
            ON_FOLDER: (
                "test_a_proxy_of_the_environment_or_the_settings_is_used",
                "test_a_password_in_the_url_is_sent_and_never_printed_nor_kept",
            ),
        },
    ),
    "T19": (
        "a redirect from https to http was followed silently",
        {f"{TRANSFER}/test_http.py": ("test_a_redirect_from_https_to_http_is_refused",)},
    ),
    "T20": (
        "a server that asked to be left alone was asked again within seconds",
        {
            f"{TRANSFER}/test_http.py": ("test_a_pause_that_is_asked_for_is_bounded",),
            f"{TRANSFER}/test_objects.py": (
                "test_a_pause_that_a_server_asks_for_is_made",
                "test_a_server_that_keeps_asking_for_pauses_is_left_to_the_next_poll",
            ),
            f"{AGENT}/test_service.py": ("test_a_server_that_asks_to_be_left_alone_is_left_alone",),
        },
    ),
    "T21": (
        "a wrong part, one without a range, or 416 ended the update at once",
        {f"{TRANSFER}/test_objects.py": ("test_a_wrong_part_is_passed_over_and_all_of_the_object_asked_for",)},
    ),
    "T23": (
        "an edge that was one timestamp behind was refused and counted as unhealthy",
        {f"{AGENT}/test_client_freshness.py": ("test_an_edge_that_is_behind_is_not_newer_and_no_attack",)},
    ),
    "T24": (
        "a full or read-only /var ended security updates",
        {
            f"{AGENT}/test_kept_metadata.py": ("test_a_full_disk_makes_the_host_go_on_in_memory_with_what_it_knows",),
            f"{AGENT}/test_objects.py": ("test_a_disk_that_fills_up_in_the_middle_does_not_end_the_update",),
            ON_FOLDER: ("test_updates_go_on_while_var_takes_nothing",),
        },
    ),
    "T25": (
        "a web page instead of metadata, or a broken root of trust, was reported as something else",
        {
            f"{AGENT}/test_client_damage.py": (
                "test_a_web_page_instead_of_metadata_is_named_with_where_it_came_from",
                "test_kept_metadata_that_are_damaged_are_fetched_anew",
                "test_a_damaged_root_of_trust_is_refused_as_the_images_own",
            ),
            f"{AGENT}/test_server.py": ("test_a_root_of_trust_that_is_broken_is_named",),
        },
    ),
    "T26": (
        "one key under two names counted twice, and a threshold of true as one",
        {
            f"{AGENT}/test_client_trust.py": (
                "test_one_key_under_two_names_counts_once",
                "test_one_key_under_two_names_counts_once_where_a_role_is_delegated_too",
                "test_a_threshold_that_is_no_number_is_refused",
            )
        },
    ),
    "T27": (
        "one new key in a document, or one more object of an unknown kind, ended updates",
        {
            "tests/unit/updater/documents/test_growth.py": (
                "test_a_new_key_anywhere_changes_nothing",
                "test_an_object_of_a_new_kind_is_passed_over_for_one_that_is_known",
            ),
            f"{AGENT}/test_client_documents.py": ("test_documents_with_new_keys_are_read",),
        },
    ),
    "T28": (
        "a build for another root of trust, other Secure Boot keys, or a debug build was published without a word",
        {
            f"{REPOSITORY}/field/test_trust.py": (
                "test_a_build_for_another_root_is_refused_and_nothing_is_written",
                "test_other_secure_boot_certificates_than_before_are_refused",
            ),
            f"{REPOSITORY}/test_publish.py": ("test_a_debug_build_is_refused_unless_it_is_allowed",),
        },
    ),
    "T29": (
        "objects of a publish that was killed stayed for ever",
        {
            f"{REPOSITORY}/upkeep/test_upkeep.py": (
                "test_what_an_interrupted_publish_left_is_collected_and_nothing_that_is_named",
            )
        },
    ),
    "T30": (
        "a release removed by hand, or a name used once for a wrong image, blocked publishing",
        {f"{REPOSITORY}/upkeep/test_upkeep.py": ("test_a_withdrawn_release_stays_explained_and_is_never_used_again",)},
    ),
    "T31": (
        "a channel could not be halted while somebody published",
        {
            f"{REPOSITORY}/upkeep/test_upkeep.py": ("test_a_halt_goes_through_while_somebody_compresses",),
        },
    ),
}


def test_every_fault_that_was_seen_is_in_the_list() -> None:
    # The list that they come from has no 22.
    assert [int(number[1:]) for number in FAULTS] == [number for number in range(1, 32) if number != 22]


@pytest.mark.parametrize("number", list(FAULTS))
def test_the_tests_of_a_fault_exist(number: str) -> None:
    check_fault(FAULTS, number)
