"""The file of texts: what it may hold, and the answers to its questions."""

import pytest

from iqa_jax.study import texts


@pytest.mark.parametrize(
    ('text', 'word'),
    [
        ('hello', 'begin with a section'), ('[title]\nx\n[title]\n', 'twice'), ('[x]\n', 'none of'),
        ('[title]\nx\n[consent]\n', 'lacks'),
        ('[title]\n[consent]\n[questionnaire]\n[instructions]\n[thanks]\n', 'must not be empty'),
        ('[title]\nx\n[consent]\nx\n[questionnaire]\na | b\n[instructions]\n[thanks]\n', 'a | b'),
        ('[title]\nx\n[consent]\nx\n[questionnaire]\na | b | number 1\n[instructions]\n[thanks]\n',
         'number LOW HIGH'),
        ('[title]\nx\n[consent]\nx\n[questionnaire]\na | b | number 1 nan\n'
         '[instructions]\n[thanks]\n', 'number LOW HIGH'),
        ('[title]\nx\n[consent]\nx\n[questionnaire]\n? | b | text\n[instructions]\n[thanks]\n',
         'no name'),
        ('[title]\nx\n[consent]\nx\n[questionnaire]\na | b | c\n[instructions]\n[thanks]\n', '"c"'),
    ],
)  # fmt: skip
def test_texts_that_cannot_be_used_are_refused(tmp_path, text, word):
    (tmp_path / 'texts.txt').write_text(text)
    with pytest.raises(ValueError, match=word.replace('|', r'\|')):
        texts.read(tmp_path / 'texts.txt')


def test_texts_keep_paragraphs_and_kinds_of_questions():
    found = texts.read('')
    assert len(found['consent']) == 3 and found['title']
    kinds = {q['name']: (q['kind'], q['required']) for q in found['questionnaire']}
    assert kinds['age'] == ('number', False) and kinds['vision'] == ('choice', True)
    with pytest.raises(ValueError, match='cannot be read'):
        texts.read('/nowhere.txt')


def test_a_text_answer_may_be_in_any_script_and_on_one_line():
    question = {'name': 'q', 'question': 'Why?', 'required': True, 'kind': 'text'}
    for good in ('نمی\u200cدانم', 'l’été\u00a0!', '👩\u200d👧', '=1+1'):
        assert texts.check_answers([question], {'q': good}) == {'q': good}
    for bad in ('', 'a\nb', '\x00', '\ud800', 'x' * 501, 5):
        with pytest.raises(ValueError, match='Why'):
            texts.check_answers([question], {'q': bad})
