from muster.domain.tag_filters import TagFilter, parse_tags


def test_each_parameter_names_its_field_and_the_rest_is_left_alone() -> None:
    query = {"tags": "a,b,a", "tags-any": "c", "not-tags": "d,,e", "not-tags-any": "", "name": "x"}
    assert parse_tags(query) == TagFilter(all_of=("a", "b"), any_of=("c",), not_all_of=("d", "e"))
