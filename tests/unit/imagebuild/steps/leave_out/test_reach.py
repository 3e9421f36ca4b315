"""Which files of the leave-out set stay, and why."""

from __future__ import annotations

from collections.abc import Mapping

from imagebuild.steps.leave_out.facts import PackageRequest, Requests, TreeFacts, TreeItem, folders_of
from imagebuild.steps.leave_out.lost import losses
from imagebuild.steps.leave_out.reach import LeaveOutDecision, decide
from imagebuild.steps.leave_out.rules import LeaveOutSection, Rules, SectionKind, load_rules

RULES = Rules(
    (
        LeaveOutSection("state", SectionKind.NEVER, "x", ("/var/*",)),
        LeaveOutSection(
            "documents",
            SectionKind.DOCUMENTATION,
            "x",
            ("/etc/motd", "/usr/share/doc", "/usr/share/zsh"),
            packages=("zsh",),
        ),
        LeaveOutSection("libraries", SectionKind.LIBRARY, "x", ("/usr/lib/lib*.so*",)),
        LeaveOutSection("perl", SectionKind.INTERPRETER, "x", ("/usr/bin/perl", "/usr/share/perl"), together=True),
        LeaveOutSection(
            "providers", SectionKind.LIBRARY, "x", ("/usr/lib/ossl-modules",), follows=("/usr/bin/openssl",)
        ),
        LeaveOutSection("programs", SectionKind.PROGRAM, "x", ("/usr/bin/openssl", "/usr/bin/gpg*", "/usr/bin/mt*")),
        LeaveOutSection("tools", SectionKind.TOOL, "x", ("/usr/bin/dpkg", "/usr/bin/ucf")),
        LeaveOutSection(
            "sleep", SectionKind.UNIT, "x", ("/usr/lib/systemd/system/sleep.*", "/usr/lib/systemd/sleep"), together=True
        ),
        LeaveOutSection("pam", SectionKind.LIBRARY, "x", ("/usr/lib/security/pam_x.so",)),
    )
)
NOBODY = Requests()
PERL = (TreeItem("/usr/bin/perl"), TreeItem("/usr/share/perl/strict.pm"))


def tree(*items: TreeItem, owners: Mapping[str, str] | None = None) -> TreeFacts:
    found = {item.path: item for item in items}
    for path in list(found):
        for folder in folders_of(path):
            found.setdefault(folder, TreeItem(folder, folder=True))
    return TreeFacts(dict(sorted(found.items())), owners or {})


def stays(made: TreeFacts, requests: Requests = NOBODY) -> dict[str, str]:
    return {path: reason.words for path, reason in decide(made, RULES, requests).stays.items()}


def test_what_nothing_reaches_goes_with_its_folders() -> None:
    made = tree(TreeItem("/usr/bin/ls"), TreeItem("/usr/share/doc/a/b"), TreeItem("/usr/lib/liba.so.1"), *PERL)
    found = decide(made, RULES, Requests())
    assert found.stays == {}
    assert found.removals == ("/usr/bin/perl", "/usr/lib/liba.so.1", "/usr/share/doc", "/usr/share/perl")


def test_a_folder_outside_of_the_set_stays_when_it_is_empty() -> None:
    found = decide(tree(TreeItem("/usr/lib/liba.so.1"), TreeItem("/var/lib/x")), RULES, Requests())
    assert found.removals == ("/usr/lib/liba.so.1", "/var/lib")


def test_a_library_stays_for_what_is_linked_to_it_over_its_links() -> None:
    link, library = (
        TreeItem("/usr/lib/liba.so.1", target="liba.so.1.2"),
        TreeItem("/usr/lib/liba.so.1.2", needed=("libb.so",)),
    )
    made = tree(
        TreeItem("/usr/bin/ls", needed=("liba.so.1",)),
        link,
        library,
        TreeItem("/usr/lib/libb.so"),
        TreeItem("/usr/lib/libc.so"),
    )
    found = decide(made, RULES, Requests())
    assert list(found.stays) == ["/usr/lib/liba.so.1", "/usr/lib/liba.so.1.2", "/usr/lib/libb.so"]
    assert found.stays["/usr/lib/libb.so"].by == "/usr/lib/liba.so.1.2"
    assert found.stays["/usr/lib/liba.so.1"].by == "/usr/bin/ls"


def test_a_library_that_something_cannot_do_without_stays() -> None:
    program = TreeItem("/usr/bin/ls", required=(("liba.so", "libb.so"),), optional=(("libc.so",),))
    made = tree(program, TreeItem("/usr/lib/libb.so"), TreeItem("/usr/lib/libc.so"))
    assert list(stays(made)) == ["/usr/lib/libb.so"]


def test_a_library_that_something_can_use_stays_if_that_was_asked_for() -> None:
    program = TreeItem("/usr/bin/ls", optional=(("libc.so",),))
    made = tree(program, TreeItem("/usr/lib/libc.so"), owners={"/usr/bin/ls": "ls"})
    assert stays(made) == {}
    assert list(stays(made, Requests(packages={"ls": PackageRequest(("image.yaml", "ls"))}))) == ["/usr/lib/libc.so"]


def test_a_script_keeps_its_interpreter_and_that_its_parts() -> None:
    made = tree(TreeItem("/usr/bin/x", interpreter="perl"), *PERL)
    assert list(stays(made)) == ["/usr/bin/perl", "/usr/share/perl/strict.pm"]
    assert list(stays(tree(TreeItem("/usr/bin/x", interpreter="/usr/bin/perl"), *PERL))) == list(stays(made))


def test_a_unit_keeps_the_program_that_it_starts() -> None:
    made = tree(TreeItem("/usr/lib/systemd/system/a.service", runs=("/usr/bin/dpkg",)), TreeItem("/usr/bin/dpkg"))
    assert stays(made) == {"/usr/bin/dpkg": "starts it"}


def test_a_module_stays_for_the_file_that_names_it() -> None:
    made = tree(TreeItem("/etc/pam.d/su", loads=("pam_x.so",)), TreeItem("/usr/lib/security/pam_x.so"))
    assert stays(made) == {"/usr/lib/security/pam_x.so": "has it loaded"}


def test_what_belongs_to_a_program_stays_with_it() -> None:
    items = (TreeItem("/usr/bin/openssl"), TreeItem("/usr/lib/ossl-modules/legacy.so"))
    assert stays(tree(*items)) == {}
    kept = stays(
        tree(*items, owners={"/usr/bin/openssl": "openssl"}),
        Requests(packages={"openssl": PackageRequest(("y", "openssl"))}),
    )
    assert list(kept) == ["/usr/bin/openssl", "/usr/lib/ossl-modules/legacy.so"]


def test_a_package_that_is_asked_for_keeps_its_own_but_its_documentation() -> None:
    made = tree(
        TreeItem("/usr/bin/openssl"),
        TreeItem("/usr/share/doc/openssl/a"),
        owners={"/usr/bin/openssl": "openssl", "/usr/share/doc/openssl/a": "openssl"},
    )
    assert list(stays(made, Requests(packages={"openssl": PackageRequest(("y", "openssl"))}))) == ["/usr/bin/openssl"]


def test_a_tool_stays_with_its_package_only_when_that_is_named() -> None:
    made = tree(TreeItem("/usr/bin/ucf"), owners={"/usr/bin/ucf": "ucf"})
    assert stays(made, Requests(packages={"ucf": PackageRequest(("y", "sshd", "ucf"), by_name=False)})) == {}
    assert list(stays(made, Requests(packages={"ucf": PackageRequest(("y", "ucf"))}))) == ["/usr/bin/ucf"]


def test_documentation_stays_for_a_package_that_uses_it() -> None:
    made = tree(TreeItem("/usr/share/zsh/_ls"))
    assert list(stays(made, Requests(packages={"zsh": PackageRequest(("y", "zsh"))}))) == ["/usr/share/zsh/_ls"]


def test_what_was_asked_for_keeps_what_it_calls_and_names() -> None:
    script = TreeItem(
        "/usr/lib/x.sh", calls=("/usr/bin/gpg", "/etc/motd"), mentions=("/usr/bin/openssl", "/usr/bin/dpkg")
    )
    made = tree(
        script, *(TreeItem(path) for path in ("/usr/bin/gpg", "/usr/bin/openssl", "/usr/bin/dpkg", "/etc/motd"))
    )
    assert stays(made) == {}
    asked = stays(made, Requests(definition=frozenset({"/usr/lib/x.sh"})))
    assert asked == {"/usr/bin/gpg": "calls it", "/usr/bin/openssl": "names it"}


def test_files_of_the_definition_and_our_own_win() -> None:
    made = tree(TreeItem("/etc/motd"), TreeItem("/usr/share/doc/x"))
    requests = Requests(ours=frozenset({"/usr/share/doc/x"}), definition=frozenset({"/etc/motd"}), drop=("/etc/*",))
    assert list(stays(made, requests)) == ["/etc/motd", "/usr/share/doc/x"]


def test_a_file_in_place_of_debian_s_keeps_nothing_else() -> None:
    unit, program = "/usr/lib/systemd/system/sleep.target", "/usr/lib/systemd/sleep"
    made = tree(TreeItem(unit), TreeItem(program))
    assert list(stays(made, Requests(definition=frozenset({unit})))) == [unit]
    assert list(stays(made, Requests(keep=(unit,)))) == [program, unit]


def test_keep_keeps_what_it_names_and_all_that_needs() -> None:
    made = tree(
        TreeItem("/usr/bin/openssl", needed=("liba.so",)), TreeItem("/usr/lib/liba.so"), TreeItem("/usr/share/doc/x")
    )
    kept = stays(made, Requests(keep=("/usr/bin/openssl", "/usr/share/doc")))
    assert list(kept) == ["/usr/bin/openssl", "/usr/lib/liba.so", "/usr/share/doc/x"]


def test_nothing_keeps_what_an_image_cannot_have() -> None:
    made = tree(TreeItem("/var/lib/x"))
    assert stays(made, Requests(keep=("/var/lib/x",), definition=frozenset({"/var/lib/x"}))) == {}


def test_drop_goes_before_need_and_the_check_names_what_broke() -> None:
    made = tree(TreeItem("/usr/bin/ls", needed=("liba.so",)), TreeItem("/usr/lib/liba.so"), TreeItem("/usr/share/x/y"))
    found = decide(made, RULES, Requests(drop=("/usr/lib/liba.so", "/usr/share/x")))
    assert found.removals == ("/usr/lib/liba.so", "/usr/share/x")
    assert losses(made, found) == ("/usr/bin/ls needs liba.so",)


def test_a_link_keeps_its_end_only_if_it_was_asked_for() -> None:
    link = TreeItem("/usr/bin/gpg2", target="/usr/bin/gpg")
    made = tree(
        TreeItem("/usr/sbin/x", target="/usr/bin/gpg"),
        link,
        TreeItem("/usr/bin/gpg"),
        owners={"/usr/bin/gpg2": "gnupg"},
    )
    assert stays(made) == {}
    requests = Requests(packages={"gnupg": PackageRequest(("y", "gnupg"))})
    assert stays(made, requests)["/usr/bin/gpg"] == "leads to it"


def test_a_program_keeps_its_names_among_the_alternatives() -> None:
    made = tree(
        TreeItem("/usr/bin/mt-gnu"),
        TreeItem("/usr/bin/mt", target="/etc/alternatives/mt"),
        TreeItem("/etc/alternatives/mt", target="/usr/bin/mt-gnu"),
        owners={"/usr/bin/mt-gnu": "cpio"},
    )
    kept = stays(made, Requests(packages={"cpio": PackageRequest(("y", "cpio"))}))
    assert kept["/usr/bin/mt"] == "is another name of it"


def test_links_in_a_circle_end() -> None:
    made = tree(TreeItem("/usr/bin/gpg", target="gpg2"), TreeItem("/usr/bin/gpg2", target="gpg"))
    assert list(stays(made, Requests(keep=("/usr/bin/gpg",)))) == ["/usr/bin/gpg", "/usr/bin/gpg2"]


def test_a_missing_interpreter_is_named_for_programs_on_the_path() -> None:
    def script(path: str, wanted: str) -> TreeItem:
        return TreeItem(path, executable=True, interpreter=wanted)

    lost = (script("/usr/bin/x", "/bin/perl"), script("/usr/sbin/y", "z"), script("/usr/share/x", "z"))
    fine = (script("/usr/bin/a", "/bin/sh"), script("/usr/bin/b", "sh"))
    made = tree(*lost, *fine, TreeItem("/usr/bin/sh"))
    assert losses(made, LeaveOutDecision()) == ("/usr/bin/x wants /bin/perl", "/usr/sbin/y wants z")


def test_a_library_behind_a_link_that_leads_nowhere_is_missed() -> None:
    made = tree(TreeItem("/usr/bin/x", needed=("liba.so",)), TreeItem("/usr/lib/liba.so", target="liba.so.1"))
    assert losses(made, LeaveOutDecision()) == ("/usr/bin/x needs liba.so",)


def test_a_plugin_without_a_library_that_no_package_brought_passes() -> None:
    plugin = TreeItem("/usr/lib/plugin.so", needed=("libtk.so",))
    assert losses(tree(plugin), LeaveOutDecision()) == ()
    brought = tree(plugin, owners={"/usr/lib/libtk.so": "tk"})
    assert losses(brought, LeaveOutDecision()) == ("/usr/lib/plugin.so needs libtk.so",)


def test_our_own_rules_are_read_and_no_path_is_there_twice() -> None:
    rules = load_rules()
    assert len(rules.patterns) == len(set(rules.patterns))
    assert len({section.name for section in rules.sections}) == len(rules.sections)
    assert rules.modules_of(("nfs-kernel-server",)) == ("fs/nfsd/",)
    assert rules.modules_of(()) == ()


def test_most_names_are_in_no_section() -> None:
    rules = load_rules()
    for path in ("/usr/bin/podman", "/usr/lib/systemd/systemd", "/etc/passwd", "/usr/bin/curl"):
        assert rules.section_of(path) is None
    section = rules.section_of("/usr/lib/x86_64-linux-gnu/libdb-5.3.so")
    assert section is not None
    assert section.kind is SectionKind.LIBRARY


def test_profiles_of_apparmor_stay_for_an_image_that_asks_for_it_by_name() -> None:
    path = "/etc/apparmor.d/abi/4.0"
    made = tree(TreeItem(path), owners={path: "apparmor"})
    rules = load_rules()
    assert decide(made, rules, NOBODY).stays == {}
    assert list(decide(made, rules, Requests(packages={"apparmor": PackageRequest(("y", "apparmor"))})).stays) == [path]
