"""Faults of the host that were seen once: for each, the tests that hold it off; and the pages that say so.

What was seen is in the words of each row; a row whose tests went away fails here.
"""

from __future__ import annotations

import re

import pytest

from tests.fault_list import ROOT, Faults, check_fault, names_in

AGENT, REPOSITORY = "tests/unit/updater/agent", "tests/unit/updater/repository"
STEPS, DISK = "tests/unit/imagebuild/steps", "tests/unit/partitions"
WHOLE, TOOLS = "qemu-test", "tests/integration"
PAGE = ROOT / "docs/what-breaks.md"
THREATS = ROOT / "docs/threat-model.md"
_SHOWN_BY = re.compile(r"`([\w./-]+\.py)::(\w+)`")

FAULTS: Faults = {
    "H1": (
        "one byte of the newest UKI was flipped: the firmware stood at its prompt, with a whole second slot",
        {
            f"{WHOLE}/test_ways_back.py": (
                "test_one_byte_of_the_newest_uki_costs_one_boot_and_is_repaired",
                "test_a_damaged_first_loader_costs_nothing_and_is_repaired",
            ),
            f"{AGENT}/test_ways_back.py": (
                "test_a_damaged_newest_uki_is_passed_over_and_restored_from_its_slot",
                "test_a_uki_that_is_damaged_beyond_its_copy_ends_on_the_other_slot",
            ),
            f"{AGENT}/test_loaders.py": (
                "test_the_one_that_differs_is_restored",
                "test_copies_that_all_differ_are_told_and_not_guessed",
            ),
        },
    ),
    "H1b": (
        "one byte of the running slot's root was flipped, and the host rebooted for ever",
        {
            f"{WHOLE}/test_ways_back.py": ("test_a_proven_slot_with_a_damaged_block_is_left_after_three_boots",),
            f"{AGENT}/test_ways_back.py": (
                "test_a_proven_slot_that_goes_bad_is_left_after_three_boots_and_written_anew",
                "test_a_proven_version_that_never_reaches_its_checks_is_left_in_the_end",
            ),
        },
    ),
    "H2": (
        "a trial lost its long name, booted uncounted and could never be blessed nor updated",
        {
            f"{WHOLE}/test_ways_back.py": ("test_an_entry_that_lost_its_long_name_is_adopted",),
            f"{AGENT}/test_ways_back.py": ("test_a_running_entry_that_lost_its_name_gets_it_back_and_is_blessed",),
        },
    ),
    "H3": (
        "a genuine old UKI under the name of version 99.0.0 ended all updates",
        {
            f"{WHOLE}/test_ways_back.py": ("test_an_old_uki_under_a_new_name_is_understood_by_its_content",),
            f"{AGENT}/test_ways_back.py": (
                "test_an_old_uki_under_a_new_name_changes_nothing",
                "test_every_name_on_the_disk_is_one_that_is_understood",
            ),
        },
    ),
    "H4": (
        "a clone of the disk was attached, and the other disk's root and /var were used",
        {
            f"{WHOLE}/test_ground.py": (
                "test_damage_is_repaired_and_the_disk_of_another_host_is_left_alone",
                "test_a_clone_is_refused_by_name",
            ),
            f"{TOOLS}/test_initrd_disk.py": (
                "test_the_disk_the_firmware_started_from_is_the_one",
                "test_a_clone_cannot_be_told_apart_and_both_are_named",
            ),
        },
    ),
    "H5": (
        "/etc was edited on the disk offline, and code ran inside PID 1 and survived updates",
        {
            f"{WHOLE}/test_etc.py": (
                "test_nothing_of_an_offline_edit_runs",
                "test_what_was_refused_is_set_aside_and_told",
            ),
            f"{TOOLS}/test_initrd_etc.py": ("test_what_the_image_does_not_list_is_set_aside",),
        },
    ),
    "H6": (
        "/var was damaged beyond e2fsck -p, and both slots rebooted for ever",
        {
            f"{TOOLS}/test_initrd_storage.py": (
                "test_what_e2fsck_gives_up_on_is_repaired_and_the_host_says_so",
                "test_a_var_beyond_repair_is_treated_as_the_image_says",
                "test_a_var_that_cannot_be_repaired_is_left_alone_and_replaced_by_memory",
                "test_a_state_that_cannot_be_repaired_is_made_anew",
            ),
            f"{WHOLE}/test_ground.py": (
                "test_damage_is_repaired_and_the_disk_of_another_host_is_left_alone",
                "test_a_lost_state_and_a_foreign_var_stop_no_boot",
            ),
        },
    ),
    "H7": (
        "/var was full: no check, no update, a staged version failed its trial",
        {
            f"{AGENT}/test_var_room.py": ("test_a_trial_is_not_judged_by_what_a_full_disk_does_to_containers",),
            f"{TOOLS}/test_host_folder.py": ("test_updates_go_on_while_var_takes_nothing",),
        },
    ),
    "H8": (
        "hints could not be written, and the same failing version was installed again and again",
        {
            f"{AGENT}/test_lost_hints.py": (
                "test_a_version_that_fails_is_installed_once_although_nothing_can_be_remembered",
            ),
        },
    ),
    "H9": (
        "three power cuts in three trial boots made a healthy version bad for ever",
        {
            f"{AGENT}/test_trial.py": ("test_tries_that_nothing_is_known_of_are_given_again",),
            f"{AGENT}/test_ways_back.py": ("test_three_boots_without_power_cost_a_proven_version_one_reboot",),
            f"{AGENT}/test_agent.py": (
                "test_a_version_that_dies_without_a_trace_gets_its_tries_once_more_and_is_bad_then",
            ),
        },
    ),
    "H10": (
        "root could write to the running slot's partition",
        {
            f"{WHOLE}/test_locks.py": (
                "test_root_cannot_write_to_the_partitions_of_a_slot",
                "test_no_process_but_the_agent_can_write_to_the_whole_disk",
                "test_the_agent_still_updates",
            ),
            f"{AGENT}/test_disk_gate.py": ("test_only_writing_to_the_given_block_devices_is_refused",),
        },
    ),
    "H11": (
        "a service died three seconds after its check passed once, and the version was blessed",
        {
            f"{AGENT}/test_health.py": (
                "test_a_service_that_dies_three_seconds_after_it_was_asked_is_not_healthy",
                "test_a_service_that_is_started_again_and_again_is_not_healthy",
            ),
            f"{WHOLE}/test_judging.py": ("test_a_service_that_dies_three_seconds_after_it_was_asked_is_not_blessed",),
        },
    ),
    "H12": (
        "a second network card without a cable was waited for, two of a trial's ten minutes",
        {
            f"{WHOLE}/test_judging.py": ("test_a_second_network_card_without_a_cable_is_not_waited_for",),
        },
    ),
    "H13": (
        "the server was away during the window, and a staged version never rebooted",
        {
            f"{AGENT}/test_service.py": (
                "test_a_staged_version_reboots_at_its_moment_though_no_server_answers",
                "test_a_staged_version_that_is_due_reboots_before_the_server_is_asked",
                "test_shortly_before_a_reboot_no_server_is_asked_that_might_hang",
            ),
            f"{WHOLE}/test_judging.py": (
                "test_a_staged_version_reboots_in_its_window_with_the_server_away_and_whoever_asks_is_waited_for",
            ),
        },
    ),
    "H14": (
        "200 hosts of one window rebooted in the same second",
        {
            f"{AGENT}/test_window.py": (
                "test_200_hosts_of_one_window_do_not_reboot_together",
                "test_200_hosts_that_are_late_still_reboot_inside_and_not_together",
            ),
        },
    ),
    "H16": (
        "1.0 and 1.00 were two versions and one to the loader, 1.0.1-RC1 and 1.0.1-rc1 one name on FAT",
        {
            f"{DISK}/test_version.py": (
                "test_versions_that_differ_in_case_or_zeros_only_are_confusable",
                "test_two_names_that_fat_takes_for_one_are_confusable",
            ),
            f"{REPOSITORY}/test_publish.py": (
                "test_a_version_that_differs_in_case_or_zeros_only_is_a_conflict",
                "test_two_builds_that_differ_in_case_or_zeros_only_are_not_published_together",
            ),
            f"{AGENT}/test_plan.py": (
                "test_a_version_that_the_loader_cannot_tell_from_the_running_one_is_not_installed",
            ),
        },
    ),
    "H17": (
        "a system user had another id in the next version, and files in /var changed owners",
        {
            "tests/unit/imagebuild/content/test_accounts.py": (
                "test_an_id_does_not_depend_on_who_else_is_there",
                "test_a_number_that_changed_since_the_earlier_version_is_named_with_the_line_that_keeps_it",
            ),
            f"{WHOLE}/test_content.py": ("test_a_host_that_edited_passwd_knows_the_users_of_the_next_version",),
        },
    ),
    "H18": (
        "the agent's units were exposed, up to 9.4 by systemd's own count",
        {
            f"{WHOLE}/test_life_of_a_host.py": ("test_the_agent_s_units_have_few_rights",),
        },
    ),
    "H19": (
        "an agent or a host that was restarted in the middle of a download began at 0",
        {
            f"{TOOLS}/test_host_folder.py": (
                "test_an_update_ends_within_two_seconds_when_it_is_asked_to_and_goes_on_later",
            ),
        },
    ),
    "H20": (
        "without Secure Boot there was no lockdown, and unsigned modules were loaded",
        {
            f"{WHOLE}/test_locks.py": (
                "test_a_module_without_a_signature_is_refused",
                "test_the_kernel_is_locked_down",
            ),
        },
    ),
    "H21": (
        "the power went right after a pull, and an image without a name and with empty files was left",
        {
            f"{WHOLE}/test_stores.py": (
                "test_an_image_that_a_cut_took_the_files_of_is_removed_before_containers_start",
                "test_what_was_removed_is_pulled_again_and_whole",
                "test_an_image_that_was_brought_to_the_disk_survives_a_cut_and_costs_no_check",
                "test_a_cut_right_after_a_change_is_checked_and_keeps_what_is_whole",
            ),
            f"{AGENT}/test_storage.py": (
                "test_what_was_stored_since_the_last_record_is_removed_with_what_uses_it",
                "test_what_was_recorded_is_never_removed_with_the_containers_that_use_it",
            ),
            f"{STEPS}/test_storage_units.py": ("test_a_record_that_a_cut_spoiled_means_a_check",),
        },
    ),
    "H22": (
        "etc-diff did not say that the image had changed what the host had edited",
        {
            f"{AGENT}/etcdiff/test_etcdiff.py": ("test_what_the_image_changed_since_is_told_with_both_contents",),
        },
    ),
    "H23": (
        "a Quadlet failed at every boot, no health check named it, and the version was blessed",
        {
            f"{AGENT}/test_units.py": ("test_a_failed_unit_counts_unless_it_is_ignored",),
            f"{WHOLE}/test_judging.py": ("test_a_unit_that_failed_counts_though_no_check_names_it",),
        },
    ),
    "H24": (
        "kernel arguments from outside started another root and a shell as PID 1",
        {
            f"{WHOLE}/test_locks.py": (
                "test_kernel_arguments_from_outside_have_no_effect_and_are_shown",
                "test_exactly_one_root_hash_counts",
            ),
        },
    ),
    "H25": (
        "an older version that was put back offline booted as proven, without a word",
        {
            f"{AGENT}/test_older.py": (
                "test_an_older_version_that_was_put_back_is_shown_and_in_the_history_once",
                "test_it_goes_on_to_the_newest_without_waiting_for_its_turn",
                "test_going_back_by_an_operator_is_no_such_case",
            ),
        },
    ),
    "H26": (
        "a file of one byte named as version 99.0.0, removed again, ended all updates",
        {
            f"{WHOLE}/test_ways_back.py": ("test_an_old_uki_under_a_new_name_is_understood_by_its_content",),
            f"{AGENT}/test_ways_back.py": (
                "test_an_old_uki_under_a_new_name_changes_nothing",
                "test_every_name_on_the_disk_is_one_that_is_understood",
            ),
        },
    ),
    "H27": (
        "the flip and the blessing were two durable steps, and a cut between them lost a healthy release",
        {
            f"{AGENT}/test_ways_back.py": ("test_an_entry_the_firmware_lost_comes_back_from_its_slot",),
            f"{DISK}/fat/test_fat_change.py": (
                "test_a_rename_is_one_write_of_one_sector",
                "test_a_power_cut_leaves_the_old_name_or_the_new_one",
            ),
            f"{TOOLS}/test_fat_peers.py": ("test_they_read_what_we_renamed",),
        },
    ),
    "H28": (
        "the first partition table was torn, and Linux saw no partition",
        {
            f"{WHOLE}/test_locks.py": (
                "test_a_disk_whose_first_partition_table_is_torn_boots_where_firmware_does_not_repair_it",
            ),
        },
    ),
    "H29": (
        "the deadline fired while the boot partition was mounted, and a blessed slot was rebooted",
        {
            f"{WHOLE}/test_hindrances.py": (
                "test_a_deadline_while_the_boot_partition_is_mounted_elsewhere_never_reboots_a_blessed_slot",
            ),
        },
    ),
    "H30": (
        "firmware refused a damaged trial, and its menu waited for a hand",
        {
            f"{AGENT}/test_ways_back.py": ("test_a_damaged_uki_of_a_trial_falls_back_by_itself_and_is_restored",),
        },
    ),
    "H31": (
        "leftovers of a cut on FAT made the first update fail",
        {
            f"{TOOLS}/test_boot_check.py": (
                "test_lost_clusters_are_reclaimed_and_the_running_entry_stays",
                "test_damage_in_another_entry_is_repaired",
                "test_damage_in_the_running_entry_is_left_alone",
            ),
            f"{AGENT}/ground/test_settling.py": ("test_the_boot_partition_is_checked_and_what_was_salvaged_removed",),
        },
    ),
    "H32": (
        "an unreadable state file cost pin, hold and the list of versions that failed",
        {
            f"{AGENT}/test_store.py": (
                "test_what_was_asked_for_survives_every_cut_and_a_flipped_bit_anywhere_in_the_state_file",
                "test_damage_of_the_second_copy_changes_nothing_and_is_repaired",
                "test_a_cut_between_the_two_files_leaves_the_old_hints_or_the_new_ones",
                "test_of_two_damaged_files_every_part_that_can_be_read_counts",
            ),
        },
    ),
    "H33": (
        "an image's name of 22 letters crossed a sector of the folder, and a cut tore it",
        {
            f"{DISK}/fat/test_fat_change.py": (
                "test_an_entry_in_two_sectors_is_refused_and_moved",
                "test_fillers_bring_a_new_file_into_one_sector",
            ),
        },
    ),
    "B21": (
        "a host that had edited /etc/passwd did not know the system user of the next version",
        {
            f"{WHOLE}/test_etc.py": ("test_a_system_user_of_a_later_version_is_on_an_edited_host",),
            f"{WHOLE}/test_content.py": ("test_a_host_that_edited_passwd_knows_the_users_of_the_next_version",),
            f"{TOOLS}/test_initrd_etc.py": ("test_an_overlay_keeps_everything_but_whole_files_of_accounts",),
        },
    ),
}


def rows() -> list[str]:
    """The rows of the page's tables, without their heads."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    return [line for line in lines if not line.startswith(("|---", "| what breaks"))]


def test_every_fault_that_was_seen_is_in_the_list() -> None:
    # The list that they come from has no 15.
    seen = {"H1b", *(f"H{number}" for number in range(1, 34) if number != 15)}
    assert seen == {number for number in FAULTS if number.startswith("H")}


@pytest.mark.parametrize("number", list(FAULTS))
def test_the_tests_of_a_fault_exist(number: str) -> None:
    check_fault(FAULTS, number)


def test_the_page_has_rows() -> None:
    assert len(rows()) > len(FAULTS)


@pytest.mark.parametrize("row", rows())
def test_every_row_of_the_page_is_shown_by_tests_that_exist(row: str) -> None:
    cells = [cell.strip() for cell in row.strip("|").split(" | ")]
    assert len(cells) == 4
    assert all(cells)
    named = _SHOWN_BY.findall(cells[-1])
    assert ", ".join(f"`{path}::{name}`" for path, name in named) == cells[-1]
    for path, name in named:
        assert name in names_in(path), (path, name)


@pytest.mark.parametrize("line", [line for line in THREATS.read_text().splitlines() if "::" in line])
def test_every_claim_of_the_threat_model_names_tests_that_exist(line: str) -> None:
    named = _SHOWN_BY.findall(line)
    assert len(named) == line.count("::")
    for path, name in named:
        assert name in names_in(path), (path, name)


def test_what_is_said_of_every_attacker_rests_on_a_test() -> None:
    parts = THREATS.read_text().split("\n## ")[2:]
    assert len(parts) >= 8
    for part in parts:
        assert "::" in part, part.splitlines()[0]
