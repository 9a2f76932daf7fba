from system.messages import counted


def test_one_is_one():
    assert [counted(number, 'object') for number in (0, 1, 2)] == ['0 objects', '1 object', '2 objects']
    assert [counted(number, 'class') for number in (0, 1, 2)] == ['0 classes', '1 class', '2 classes']
