from system.messages import pluralize


def test_one_is_one():
    assert [pluralize(number, 'object') for number in (0, 1, 2)] == ['0 objects', '1 object', '2 objects']
    assert [pluralize(number, 'class') for number in (0, 1, 2)] == ['0 classes', '1 class', '2 classes']
